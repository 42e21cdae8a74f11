#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chunkstore::fuzz::config(data));
