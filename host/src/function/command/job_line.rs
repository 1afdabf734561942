//! A job as a command gets it: one line of JSON.

use serde::Serialize;

use crate::function::{Call, JobError};

#[derive(Serialize)]
struct Facts<'a> {
    job_id: &'a str,
    function: &'a str,
    queue: &'a str,
    attempt: u32,
}

/// The job as one JSON object and a line feed. Its arguments are passed on as they came, so that
/// a `NaN` that a Python program sent reaches a Python command.
pub(super) fn job_line(call: &Call) -> Result<Vec<u8>, JobError> {
    let facts = call.context.facts();
    let mut line = serde_json::to_vec(&Facts {
        job_id: &facts.job_id,
        function: &facts.function,
        queue: &facts.queue,
        attempt: facts.attempt,
    })?;
    line.pop();
    line.reserve(call.args.len() + call.kwargs.len() + 32);
    for (name, payload) in [("args", &call.args), ("kwargs", &call.kwargs)] {
        line.extend_from_slice(format!(",\"{name}\":").as_bytes());
        // A line feed in JSON can only stand between tokens, where a space is as good.
        line.extend(payload.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => *byte,
        }));
    }
    line.extend_from_slice(b"}\n");
    Ok(line)
}
