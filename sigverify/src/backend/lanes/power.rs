//! Powers of field elements: the inverse, and the one inside a square root.

use super::field::{Element, carry, product, square, square_soon};

vector! {
    /// `a^(2^count)` for several elements side by side: one alone would wait for its own results.
    fn square_times<const N: usize>(mut a: [Element; N], count: usize) -> [Element; N] {
        for _ in 0..count {
            for element in &mut a {
                *element = carry(if N == 1 { square_soon(element) } else { square(element) });
            }
        }
        a
    }
}

vector! {
    fn products<const N: usize>(a: &[Element; N], b: &[Element; N]) -> [Element; N] {
        std::array::from_fn(|n| product(&a[n], &b[n]))
    }
}

vector! {
    /// `a^(2^250 − 1)`.
    fn power_250_1<const N: usize>(a: &[Element; N]) -> [Element; N] {
        let two = square_times(*a, 1);
        let nine = products(&square_times(two, 2), a);
        let eleven = products(&nine, &two);
        let to_5 = products(&square_times(eleven, 1), &nine);
        let to_10 = products(&square_times(to_5, 5), &to_5);
        let to_20 = products(&square_times(to_10, 10), &to_10);
        let to_40 = products(&square_times(to_20, 20), &to_20);
        let to_50 = products(&square_times(to_40, 10), &to_10);
        let to_100 = products(&square_times(to_50, 50), &to_50);
        let to_200 = products(&square_times(to_100, 100), &to_100);
        products(&square_times(to_200, 50), &to_50)
    }
}

vector! {
    /// `a^((p − 5) / 8)`, the power inside a square root of a ratio.
    pub(super) fn power_p58<const N: usize>(a: &[Element; N]) -> [Element; N] {
        products(&square_times(power_250_1(a), 2), a)
    }
}

vector! {
    /// `1 / a`; zero for zero.
    pub(super) fn invert(a: &Element) -> Element {
        // p − 2 = 8·(p − 5)/8 + 3.
        let [power] = square_times(power_p58(&[*a]), 3);
        product(&power, &product(&carry(square(a)), a))
    }
}
