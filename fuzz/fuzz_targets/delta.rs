#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pefo_fuzz::delta(data));
