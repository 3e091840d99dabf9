//! The pair that all inputs are about, with a key that signs whatever a fuzzer makes up.

use pefo_core::clock::Timestamp;
use pefo_core::generation::Site;
use pefo_core::keys::SigningKey;
use pefo_core::{Certname, Result};

/// A private key that everybody knows, in PKCS#8: it signs test data and nothing else.
const KEY: [u8; 83] = [
    0x30, 0x51, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    0x71, 0x14, 0x1d, 0x92, 0xc8, 0x64, 0x2e, 0x26, 0x11, 0xec, 0x6d, 0x7e, 0xe1, 0xee, 0x66, 0xc1,
    0x49, 0x52, 0xf4, 0x88, 0xea, 0x2b, 0x03, 0x99, 0x3e, 0x12, 0xc3, 0xa9, 0x44, 0x22, 0xff, 0xf0,
    0x81, 0x21, 0x00, 0x8c, 0x49, 0xfe, 0x76, 0x1f, 0xa0, 0x8c, 0x82, 0x4a, 0x41, 0xb5, 0x1c, 0xf5,
    0x8a, 0xfb, 0xed, 0x9d, 0x49, 0x7c, 0x71, 0x72, 0x2e, 0x52, 0xb7, 0x9b, 0xb6, 0x7c, 0x91, 0xc9,
    0x84, 0x1f, 0x9b,
];

/// Who is who.
#[derive(Debug)]
pub struct World {
    /// The pair.
    pub site: Site,
    /// The active.
    pub active: Certname,
    /// The passive.
    pub passive: Certname,
    /// The key of both.
    pub key: SigningKey,
    /// When everything happens.
    pub now: Timestamp,
}

impl World {
    /// The one there is.
    ///
    /// # Panics
    /// Where pefo-core takes none of its values any more.
    #[expect(clippy::expect_used, reason = "constants that parse")]
    pub fn new() -> Self {
        let made = || -> Result<Self> {
            Ok(Self {
                site: Site::new("0123456789abcdef0123456789abcdef")?,
                active: Certname::new("a.lab")?,
                passive: Certname::new("b.lab")?,
                key: SigningKey::from_pkcs8(&KEY)?,
                now: Timestamp::from_unix_seconds(1_763_800_000)?,
            })
        };
        made().expect("the world's constants parse")
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
