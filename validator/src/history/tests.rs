//! Both ways of answering, the same questions.
