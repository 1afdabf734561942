//! `warren results export`: every record as a line of JSON, from which `import` makes it again.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use serde_json::json;
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
    let mut sink: Box<dyn Write> = match out {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(failed)?)),
        None => Box::new(BufWriter::new(io::stdout())),
    };
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
    sink.flush().map_err(failed)?;
    bar.finish_and_clear();
    if out.is_some() && output.json {
        output.print_json(&json!({ "exported": exported }));
    } else if out.is_some() {
        println!("{exported} results exported");
    }
    Ok(Exit::Ok)
}
