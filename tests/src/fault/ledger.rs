//! What the jobs say of themselves: a line for each beginning and each end, in one file.
//!
//! A line is written by one small append, so that lines of many processes do not mix.

use std::{collections::HashMap, fs, io::Write, path::PathBuf};

/// The file's name in the folder where the worker runs.
const FILE: &str = "ledger";

/// Functions that write the ledger, as tables of the configuration. `quick`, `slow` and `flaky`
/// succeed (`flaky` at the second attempt), `broken` never does.
pub(super) fn functions() -> String {
    let begin = r#"echo "S $WARREN_JOB_ID $WARREN_ATTEMPT $$" >> ledger"#;
    let end = |word| format!(r#"echo "E $WARREN_JOB_ID $WARREN_ATTEMPT $$ {word}" >> ledger"#);
    let (done, again, failed) = (end("ok"), end("again"), end("failed"));
    let no_retry = "limit = 0";
    let retries = "limit = 5, base = \"200ms\", cap = \"1s\"";
    [
        ("quick", no_retry, format!("{begin}; {done}; echo $$")),
        ("slow", no_retry, format!("{begin}; sleep 0.3; {done}; echo $$")),
        ("long", no_retry, format!("{begin}; sleep 2; {done}; echo $$")),
        // The quotes and the number are a part of the 64 MiB.
        ("large", no_retry, format!("{begin}; {done}; printf '\"%s ' $$; head -c 67108844 /dev/zero | tr '\\0' x; printf '\"'")),
        ("loud", no_retry, format!("{begin}; head -c 200000 /dev/zero | tr '\\0' x >&2; {failed}; exit 3")),
        ("broken", no_retry, format!("{begin}; {failed}; exit 3")),
        (
            "flaky",
            retries,
            format!(
                "{begin}; if [ $WARREN_ATTEMPT -lt 2 ]; then {again}; exit 75; fi; {done}; echo $$"
            ),
        ),
    ]
    .map(|(name, retry, script)| {
        format!(
            "[functions.{name}]\ncommand = [\"sh\", \"-c\", {script:?}]\nretry = {{ {retry} }}\n\n"
        )
    })
    .concat()
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which attempt it was.
    pub attempt: u64,
    /// The process that ran it; a job's result begins with this number.
    pub process: String,
    /// How it ended: `ok`, `again`, `failed`; nothing if it was interrupted.
    pub end: Option<String>,
    /// Whether it ended after the last [mark](Ledger::mark).
    pub ended_after_mark: bool,
}

/// The file, read.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self {
            path: folder.join(FILE),
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// How many runs have begun.
    pub fn begun(&self) -> usize {
        self.lines_with('S')
    }

    /// How many runs have ended.
    pub fn ended(&self) -> usize {
        self.lines_with('E')
    }

    fn lines_with(&self, kind: char) -> usize {
        let text = self.text();
        text.lines().filter(|line| line.starts_with(kind)).count()
    }

    /// Notes a moment, which runs can be seen to have ended after.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn mark(&self) {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path);
        file.and_then(|mut file| file.write_all(b"M\n"))
            .expect("the ledger can be written");
    }

    /// Every run of every job, by the job's id, in the order in which they began.
    ///
    /// # Panics
    /// When a line is not one: the ledger itself is broken.
    pub fn runs(&self) -> HashMap<String, Vec<Run>> {
        let text = self.text();
        let last_mark = text.lines().filter(|line| *line == "M").count();
        let mut marks = 0;
        let mut runs: HashMap<String, Vec<Run>> = HashMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["M"] => marks += 1,
                ["S", id, attempt, process] => runs.entry(id.to_owned()).or_default().push(Run {
                    attempt: attempt.parse().expect("an attempt is a number"),
                    process: process.to_owned(),
                    end: None,
                    ended_after_mark: false,
                }),
                ["E", id, _, process, end] => {
                    let runs = runs.get_mut(id).expect("what ends has begun");
                    let run = runs.iter_mut().rfind(|run| run.process == process);
                    let run = run.expect("what ends has begun");
                    run.end = Some(end.to_owned());
                    run.ended_after_mark = marks == last_mark;
                }
                _ => panic!("not a line of the ledger: {line:?}"),
            }
        }
        runs
    }
}
