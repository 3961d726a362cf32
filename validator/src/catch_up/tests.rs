//! One honest peer among liars is enough.
