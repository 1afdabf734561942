//! Any headers: no panic, and an attempt is always at least the first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::job::{HeaderRef, JobHeaders, attempt};

fuzz_target!(|input: (i64, Vec<(Option<i64>, String)>)| {
    let (job_try, values) = input;
    let headers = JobHeaders::read(|name| {
        let place = name.bytes().map(usize::from).sum::<usize>();
        let (number, text) = values.get(place % (values.len() + 1))?;
        Some(number.map_or(HeaderRef::Text(text), HeaderRef::Int))
    });
    assert!(attempt(job_try, &headers) >= 1);
});
