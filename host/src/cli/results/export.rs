//! `warren results export`: every record as a line of JSON, from which `import` makes it again.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde_json::json;
use tempfile::NamedTempFile;
use warren_plugin_api::Filter;

use super::{
    super::{
        error::{CliError, Exit},
        output::Output,
    },
    pages::Pages,
};
use crate::store::Store;

pub(super) async fn run(
    store: &Store,
    filter: Filter,
    out: Option<&Path>,
    output: &Output,
) -> Result<Exit, CliError> {
    let name = out.map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let failed =
        |error: io::Error| CliError::new(Exit::Failure, format!("{name}: cannot write: {error}"));
    let mut sink = Sink::open(out).map_err(failed)?;
    let bar = output.progress_count("results exported");
    let mut pages = Pages::new(store, filter, None);
    let mut exported = 0_u64;
    while let Some(records) = pages.next().await? {
        for record in &records {
            serde_json::to_writer(&mut sink, record).map_err(|error| failed(error.into()))?;
            sink.write_all(b"\n").map_err(failed)?;
        }
        exported += records.len() as u64;
        bar.set_position(exported);
    }
    sink.finish().map_err(failed)?;
    bar.finish_and_clear();
    if out.is_some() && output.json {
        output.print_json(&json!({ "exported": exported }));
    } else if out.is_some() {
        println!("{exported} results exported");
    }
    Ok(Exit::Ok)
}

/// Where the lines go. A file gets its name when it is whole: an export that fails leaves the one
/// that was there. Only its owner can read it, as it holds what jobs were given.
enum Sink {
    File {
        new: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
    /// Standard output, or what is no file: a pipe, a device.
    Stream(BufWriter<Box<dyn Write>>),
}

impl Sink {
    fn open(out: Option<&Path>) -> io::Result<Self> {
        let Some(path) = out else {
            return Ok(Self::Stream(BufWriter::new(Box::new(io::stdout()))));
        };
        if path.exists() && !path.is_file() {
            let stream = File::options().write(true).open(path)?;
            return Ok(Self::Stream(BufWriter::new(Box::new(stream))));
        }
        // Through a link, or the link would be replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let new = NamedTempFile::new_in(folder_of(&path))?;
        Ok(Self::File {
            new: BufWriter::new(new),
            path,
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream(mut stream) => stream.flush(),
            Self::File { new, path } => {
                let new = new.into_inner().map_err(io::IntoInnerError::into_error)?;
                new.as_file().sync_all()?;
                new.persist(&path)?;
                // The name too must survive a loss of power.
                File::open(folder_of(&path))?.sync_all()
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { new, .. } => new.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { new, .. } => new.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
