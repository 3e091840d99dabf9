//! The rolling checksum: a polynomial modulo 2³² over the window's bytes.
//!
//! `h(b₀…bₙ₋₁) = Σ bᵢ·Mⁿ⁻¹⁻ⁱ mod 2³²`, so that the window moves on one byte by
//! `h' = h·M + entering − leaving·Mⁿ`. It only proposes matches; [`super::strong`] decides.
//!
//! Why this one. rsync's own sum (a variant of Adler-32) adds bytes and positions without
//! multiplying: on text in short blocks its halves fill a few of their bits only, and every byte
//! exchange that keeps two sums collides. A cyclic polynomial (buzhash) treats bytes 32 places apart
//! alike, which fixed-width records have. A polynomial mixes every byte into all higher bits, costs
//! one multiplication a byte, and two bytes can be taken in one step of the dependency chain.
//!
//! Its weakness is the low bits: bit *k* depends only on bits 0 to *k* of the input. So the look-up
//! uses the **high** bits first ([`super::index`]), and a candidate must agree in all 32.
//!
//! `M` is drawn from the signature's seed with `M ≡ 5 (mod 8)`: such numbers have the longest period
//! there is modulo 2³² (2³⁰), so that no two places of a window, which is at most 2²⁰ long, have the
//! same weight. A secret multiplier does not make collisions impossible to prepare (Thue–Morse words
//! collide under every one): that the time stays linear then is not this function's promise but the
//! budget's in [`super::diff`].

/// How many bytes are summed in one step.
const STRIDE: usize = 16;

/// The checksum for windows of one length.
#[derive(Debug)]
pub(super) struct Rolling {
    multiplier: u32,
    square: u32,
    /// `M¹⁵, M¹⁴, … M⁰`.
    powers: [u32; STRIDE],
    stride: u32,
    /// What each byte takes away as it leaves: `byte·Mⁿ`.
    leaving: Box<[u32; 256]>,
}

/// Any number as a multiplier of the longest period.
pub(super) const fn multiplier(drawn: u32) -> u32 {
    (drawn & !7) | 5
}

impl Rolling {
    /// For windows of `window` bytes; `multiplier` comes from [`multiplier`].
    pub(super) fn new(multiplier: u32, window: u32) -> Self {
        let mut powers = [1_u32; STRIDE];
        for at in (0..STRIDE - 1).rev() {
            powers[at] = powers[at + 1].wrapping_mul(multiplier);
        }
        let gone = multiplier.wrapping_pow(window);
        let mut leaving = Box::new([0; 256]);
        for (byte, weight) in leaving.iter_mut().enumerate() {
            *weight = gone.wrapping_mul(byte as u32);
        }
        Self {
            multiplier,
            square: multiplier.wrapping_mul(multiplier),
            powers,
            stride: powers[0].wrapping_mul(multiplier),
            leaving,
        }
    }

    /// The checksum of some bytes, of any length.
    pub(super) fn sum(&self, bytes: &[u8]) -> u32 {
        let (chunks, rest) = bytes.as_chunks::<STRIDE>();
        let mut hash = 0_u32;
        for chunk in chunks {
            // The products do not hang on one another, so that they become vector instructions.
            let mut sum = 0_u32;
            for (byte, power) in chunk.iter().zip(&self.powers) {
                sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(*power));
            }
            hash = hash.wrapping_mul(self.stride).wrapping_add(sum);
        }
        for byte in rest {
            hash = hash
                .wrapping_mul(self.multiplier)
                .wrapping_add(u32::from(*byte));
        }
        hash
    }

    /// Moves the window on until `hit` likes its checksum or the shorter of the slices is used up:
    /// `leaving` begins with the first byte in the window, `entering` with the first after it. Gives
    /// the steps taken.
    pub(super) fn advance(
        &self,
        hash: &mut u32,
        leaving: &[u8],
        entering: &[u8],
        hit: impl Fn(u32) -> bool,
    ) -> usize {
        let change = |leaving: u8, entering: u8| {
            u32::from(entering).wrapping_sub(self.leaving[usize::from(leaving)])
        };
        let length = leaving.len().min(entering.len());
        let (leaving, entering) = (&leaving[..length], &entering[..length]);
        let (leaving_pairs, leaving_last) = leaving.as_chunks::<2>();
        let (entering_pairs, entering_last) = entering.as_chunks::<2>();
        let mut steps = 0;
        let mut current = *hash;
        // Two steps at once: the second one hangs on `current`, not on the first.
        for (out, new) in leaving_pairs.iter().zip(entering_pairs) {
            let (one, two) = (change(out[0], new[0]), change(out[1], new[1]));
            let first = current.wrapping_mul(self.multiplier).wrapping_add(one);
            let second = current
                .wrapping_mul(self.square)
                .wrapping_add(one.wrapping_mul(self.multiplier).wrapping_add(two));
            if hit(first) {
                *hash = first;
                return steps + 1;
            }
            steps += 2;
            if hit(second) {
                *hash = second;
                return steps;
            }
            current = second;
        }
        if let ([out], [new]) = (leaving_last, entering_last) {
            current = current
                .wrapping_mul(self.multiplier)
                .wrapping_add(change(*out, *new));
            steps += 1;
        }
        *hash = current;
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rolling_on_gives_what_summing_anew_gives(
            drawn in any::<u32>(),
            bytes in prop::collection::vec(any::<u8>(), 1..200),
            window in 1_usize..64,
        ) {
            prop_assume!(window <= bytes.len());
            let rolling = Rolling::new(multiplier(drawn), window as u32);
            let mut hash = rolling.sum(&bytes[..window]);
            let mut at = 0;
            while at + window < bytes.len() {
                // A hit at each step, so that every step is looked at.
                let steps = rolling.advance(&mut hash, &bytes[at..], &bytes[at + window..], |_| true);
                prop_assert_eq!(steps, 1);
                at += steps;
                prop_assert_eq!(hash, rolling.sum(&bytes[at..at + window]));
            }
        }

        #[test]
        fn it_stops_at_the_first_hit(
            drawn in any::<u32>(),
            bytes in prop::collection::vec(any::<u8>(), 20..100),
            wanted in 0_usize..100,
        ) {
            let window = 16;
            let rolling = Rolling::new(multiplier(drawn), window as u32);
            let sums: Vec<u32> = bytes.windows(window).map(|w| rolling.sum(w)).collect();
            let target = sums[wanted % sums.len()];
            let first = sums.iter().skip(1).position(|sum| *sum == target).map_or(sums.len() - 1, |at| at + 1);
            let mut hash = sums[0];
            let steps = rolling.advance(&mut hash, &bytes, &bytes[window..], |sum| sum == target);
            prop_assert_eq!((steps, hash), (first, sums[first]));
        }
    }

    #[test]
    fn every_multiplier_has_the_longest_period() {
        for drawn in [0, 1, 7, 0x1234_5678, u32::MAX] {
            let base = multiplier(drawn);
            assert_eq!(base.wrapping_pow(1 << 30), 1);
            assert_ne!(base.wrapping_pow(1 << 29), 1);
        }
    }
}
