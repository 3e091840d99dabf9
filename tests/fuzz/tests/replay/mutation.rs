//! Mutations of an input: what breaks parsers, drawn from a seed so that it is the same each time.

/// Numbers at which lengths, counts and offsets go wrong.
const EDGES: [u64; 18] = [
    0,
    1,
    63,
    64,
    127,
    128,
    255,
    256,
    4_095,
    4_096,
    65_535,
    1 << 20,
    (1 << 20) + 1,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// Words that mean something in a format.
const WORDS: [&[u8]; 16] = [
    b"\"",
    b"\\u0000",
    b"\n",
    b" ",
    b"/",
    b"../",
    b".",
    b"null",
    b"-1",
    b"18446744073709551616",
    b"1e9",
    b"[]",
    b"{}",
    b",",
    b"\xff",
    b"\xe2\x80\xae",
];

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 where there is nothing below.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % (end as u64).max(1)) as usize
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }
}

/// Endless mutations of one input.
pub(crate) struct Mutations<'a> {
    input: &'a [u8],
    others: &'a [&'a [u8]],
    chance: Chance,
}

impl<'a> Mutations<'a> {
    pub(crate) fn of(name: &str, input: &'a [u8], others: &'a [&'a [u8]]) -> Self {
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self {
            input,
            others,
            chance: Chance(seed),
        }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.input.to_vec();
        for _ in 0..=self.chance.below(3) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let chance = &mut self.chance;
        let (kind, at) = (chance.below(10), chance.below(bytes.len() + 1));
        let some = chance.below(16.min(bytes.len() - at) + 1);
        match kind {
            0 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << chance.below(8)),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..at + some)),
            3 => drop(bytes.splice(at..at, chance.of(&WORDS).iter().copied())),
            4 => drop(bytes.splice(at..at + some, chance.of(&WORDS).iter().copied())),
            5 => {
                let again = bytes[at..].iter().copied().cycle().take(chance.below(200));
                let again: Vec<u8> = again.collect();
                drop(bytes.splice(at..at, again));
            }
            6 => {
                let number = chance.of(&EDGES).to_le_bytes();
                let width = chance.of(&[1, 2, 4, 8]).min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            7 => number_in_text(bytes, at, chance.of(&EDGES)),
            8 => repeat_in_text(bytes, at),
            _ => {
                let other = chance.of(self.others);
                let from = chance.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// Puts another number in the place of the next one of a JSON object.
fn number_in_text(bytes: &mut Vec<u8>, at: usize, number: u64) {
    let is_number = |pair: &[u8]| pair[0] == b':' && pair[1].is_ascii_digit();
    let Some(begin) = bytes[at..].windows(2).position(is_number) else {
        return;
    };
    let begin = at + begin + 1;
    let digits = bytes[begin..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let end = begin + digits.count();
    drop(bytes.splice(begin..end, number.to_string().into_bytes()));
}

/// Repeats the next innermost JSON object, as if a list had it twice.
fn repeat_in_text(bytes: &mut Vec<u8>, at: usize) {
    let Some(end) = bytes[at..].iter().position(|byte| *byte == b'}') else {
        return;
    };
    let end = at + end + 1;
    let Some(begin) = bytes[..end].iter().rposition(|byte| *byte == b'{') else {
        return;
    };
    let again = [b",", &bytes[begin..end]].concat();
    drop(bytes.splice(end..end, again));
}
