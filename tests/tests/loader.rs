//! Every way in which a file can fail to be a plugin: refused with a sentence that says what was
//! found and what was expected, while the other plugins load and the host lives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use warren::store::{
    OpenError, Origin, RegisterError, Store, StorePolicy, StoreRegistry,
    plugins::{
        FileState, LoadReport, PluginFolder, RefusedBecause, load_folders, load_named, load_one,
    },
};
use warren_plugin_api::{
    ErrorClass, Record, Status, StoreError, Write, WriteOutcome, loader::LoadError,
};
use warren_tests::{fixtures::fixtures, plugin};

/// A plugin folder that holds one good plugin, and whatever a test adds.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn with_a_good_plugin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(&fixtures().store, folder.path().join("good.so")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self) -> (StoreRegistry, LoadReport) {
        let registry = StoreRegistry::new();
        let report = load_folders(&registry, &[PluginFolder::named(self.folder.path())]);
        (registry, report)
    }

    /// Loads the folder, checks that the good plugin is in use, and returns the bad one's reason.
    async fn refusal_of(&self, name: &str) -> RefusedBecause {
        let (registry, report) = self.load();
        registry
            .open("fixture", &json!({}), &[])
            .await
            .expect("the good plugin works");
        let (path, refused) = report.refused().next().expect("one file is refused");
        assert_eq!(path, self.path(name));
        assert_eq!(report.refused().count(), 1);
        let text = refused.error.to_string();
        assert!(text.contains(name), "{text:?} does not name the file");
        assert!(!text.contains('\n'), "{text:?} is more than one sentence");
        refused.error.clone()
    }

    /// As `refusal_of`, for a file made of these bytes.
    async fn refusal_of_bytes(bytes: &[u8]) -> LoadError {
        let folder = Self::with_a_good_plugin();
        fs::write(folder.path("odd.so"), bytes).unwrap();
        load_error(folder.refusal_of("odd.so").await)
    }
}

fn load_error(refused: RefusedBecause) -> LoadError {
    match refused {
        RefusedBecause::Load(error) => error,
        other => panic!("expected a file that cannot be loaded, found: {other}"),
    }
}

fn good_bytes() -> Vec<u8> {
    fs::read(&fixtures().store).unwrap()
}

/// The good plugin's bytes with its description changed: `at` counts from the start of the mark.
fn with_changed_info(at: usize, value: u32) -> Vec<u8> {
    let mut bytes = good_bytes();
    let mark = b"WARREN-STORE\r\n\x1a\n\x01\x00\x00\x00";
    let info = bytes
        .windows(mark.len())
        .position(|window| window == mark)
        .unwrap();
    bytes[info + at..info + at + 4].copy_from_slice(&value.to_ne_bytes());
    bytes
}

const MAJOR: usize = 16;
const MINOR: usize = 20;
const PANIC_ABORTS: usize = 24;

#[tokio::test]
async fn a_text_file_is_not_a_library() {
    let error = Folder::refusal_of_bytes(b"#!/bin/sh\necho hello\n").await;
    assert!(matches!(error, LoadError::NotALibrary { .. }), "{error}");
    assert!(error.to_string().contains("#!/bin/sh"), "{error}");
}

#[tokio::test]
async fn an_empty_file_is_named_as_such() {
    let error = Folder::refusal_of_bytes(b"").await;
    assert!(matches!(error, LoadError::Empty { .. }), "{error}");
}

#[tokio::test]
async fn a_cut_off_file_is_found_before_it_is_mapped() {
    let whole = good_bytes();
    for kept in [5, 63, 64, 200, whole.len() / 2, whole.len() - 1] {
        let error = Folder::refusal_of_bytes(&whole[..kept]).await;
        let LoadError::CutOff {
            found_bytes,
            expected_bytes,
            ..
        } = error
        else {
            panic!("{kept} of {} bytes: {error}", whole.len());
        };
        assert_eq!(found_bytes, kept as u64);
        assert!(expected_bytes > found_bytes);
    }
}

#[tokio::test]
async fn another_processor_s_library_is_refused() {
    let mut bytes = good_bytes();
    const MACHINE: usize = 18;
    let other = if cfg!(target_arch = "x86_64") {
        183_u16
    } else {
        62
    };
    bytes[MACHINE..MACHINE + 2].copy_from_slice(&other.to_ne_bytes());
    let error = Folder::refusal_of_bytes(&bytes).await;
    let LoadError::WrongArchitecture { expected, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*expected, std::env::consts::ARCH);
}

#[tokio::test]
async fn a_library_without_the_entry_symbol_is_not_a_plugin() {
    let folder = Folder::with_a_good_plugin();
    fs::copy(&fixtures().not_a_store, folder.path("zlib.so")).unwrap();
    let error = load_error(folder.refusal_of("zlib.so").await);
    assert!(matches!(error, LoadError::NoEntrySymbol { .. }), "{error}");
}

#[tokio::test]
async fn a_later_contract_is_too_new() {
    for bytes in [with_changed_info(MINOR, 99), with_changed_info(MAJOR, 2)] {
        let error = Folder::refusal_of_bytes(&bytes).await;
        assert!(matches!(error, LoadError::ContractTooNew { .. }), "{error}");
        assert!(
            error.to_string().contains("this host supports 1.0 to 1.1"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_earlier_major_contract_is_too_old() {
    let error = Folder::refusal_of_bytes(&with_changed_info(MAJOR, 0)).await;
    assert!(
        matches!(error, LoadError::ContractTooOld { found_major: 0, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("rebuild the plugin"), "{error}");
}

#[tokio::test]
async fn a_plugin_whose_panics_abort_is_refused() {
    let error = Folder::refusal_of_bytes(&with_changed_info(PANIC_ABORTS, 1)).await;
    assert!(matches!(error, LoadError::PanicAborts { .. }), "{error}");
}

#[tokio::test]
async fn a_changed_layout_is_refused() {
    let folder = Folder::with_a_good_plugin();
    fs::copy(&fixtures().changed_layout, folder.path("odd.so")).unwrap();
    let error = load_error(folder.refusal_of("odd.so").await);
    assert!(matches!(error, LoadError::ChangedLayout { .. }), "{error}");
    assert!(
        error.to_string().contains("incompatible type size"),
        "{error}"
    );
    assert!(error.to_string().len() < 600, "{error}");
}

#[tokio::test]
async fn an_unreadable_file_is_named_with_the_system_s_words() {
    let folder = Folder::with_a_good_plugin();
    // Links in a circle: unlike a mode of 000, they stop even root.
    symlink(folder.path("there.so"), folder.path("here.so")).unwrap();
    symlink(folder.path("here.so"), folder.path("there.so")).unwrap();
    let (registry, report) = folder.load();
    assert!(registry.find("fixture").is_some());
    for (_, refused) in report.refused() {
        assert!(
            matches!(
                refused.error,
                RefusedBecause::Load(LoadError::Unreadable { .. })
            ),
            "{}",
            refused.error
        );
    }
    assert_eq!(report.refused().count(), 2);
}

#[tokio::test]
async fn a_dangling_link_is_named_with_its_target() {
    let folder = Folder::with_a_good_plugin();
    symlink("/nowhere/store.so", folder.path("link.so")).unwrap();
    let error = load_error(folder.refusal_of("link.so").await);
    let LoadError::DanglingLink { target, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(target, Path::new("/nowhere/store.so"));
}

#[tokio::test]
async fn a_folder_is_not_a_plugin() {
    let folder = Folder::with_a_good_plugin();
    fs::create_dir(folder.path("folder.so")).unwrap();
    let error = load_error(folder.refusal_of("folder.so").await);
    assert!(
        matches!(
            error,
            LoadError::NotAFile {
                found: "folder",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn two_plugins_with_one_name_are_both_named() {
    let folder = Folder::with_a_good_plugin();
    fs::copy(&fixtures().store, folder.path("other.so")).unwrap();
    let refused = folder.refusal_of("other.so").await;
    let RefusedBecause::Register(RegisterError::NameTaken {
        name,
        first,
        second,
    }) = &refused
    else {
        panic!("{refused}");
    };
    assert_eq!(name, "fixture");
    assert_eq!(*first, Origin::Plugin(folder.path("good.so")));
    assert_eq!(*second, Origin::Plugin(folder.path("other.so")));
    let text = refused.to_string();
    assert!(
        text.contains("good.so") && text.contains("other.so"),
        "{text}"
    );
}

#[tokio::test]
async fn a_link_to_a_plugin_that_is_loaded_already_is_not_a_second_plugin() {
    let folder = Folder::with_a_good_plugin();
    symlink(folder.path("good.so"), folder.path("link.so")).unwrap();
    let (_, report) = folder.load();
    assert_eq!(report.refused().count(), 0);
    assert_eq!(report.files.len(), 1);
}

#[test]
fn only_plugins_that_are_named_are_loaded_unless_a_name_is_unknown() {
    let folder = Folder::with_a_good_plugin();
    fs::copy(plugin("memory"), folder.path("memory.so")).unwrap();
    fs::write(folder.path("odd.so"), "").unwrap();
    let folders = [PluginFolder::named(folder.folder.path())];
    for (name, loaded) in [
        ("memory", &["memory"][..]),
        ("memroy", &["fixture", "memory"]),
    ] {
        let registry = StoreRegistry::new();
        let report = load_named(&registry, &folders, &BTreeSet::from([name.to_owned()]));
        let types = registry.types();
        let types: Vec<&str> = types.iter().map(|it| &*it.manifest.name).collect();
        assert_eq!(types, loaded);
        // A file that is no plugin is told of in any case.
        assert_eq!(report.refused().count(), 1);
        assert_eq!(report.files.len(), loaded.len() + 1);
    }
}

#[tokio::test]
async fn a_named_folder_that_is_absent_is_reported() {
    let registry = StoreRegistry::new();
    let report = load_folders(&registry, &[PluginFolder::named("/nowhere/plugins")]);
    assert_eq!(report.unreadable_folders.len(), 1);
}

/// Long enough for the backtrace of a panic in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const IMPATIENCE: Duration = Duration::from_millis(300);

async fn open_with(config: Value) -> Result<Store, OpenError> {
    open_with_deadlines(config, PATIENCE, PATIENCE).await
}

async fn open_with_deadlines(
    config: Value,
    opening: Duration,
    call: Duration,
) -> Result<Store, OpenError> {
    let store_type = load_one(&fixtures().store).unwrap();
    let object = store_type.open_within(opening, &config).await?;
    let policy = StorePolicy {
        deadline: call,
        ..StorePolicy::default()
    };
    Ok(Store::new("fixture", object, policy).unwrap())
}

#[tokio::test]
async fn a_constructor_s_error_is_shown() {
    let error = open_with(json!({ "fault": "constructor_error" }))
        .await
        .unwrap_err();
    let OpenError::Constructor { error, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(
        error,
        StoreError::invalid_config("the fixture was told to fail")
    );
}

#[tokio::test]
async fn a_constructor_s_panic_is_an_internal_error() {
    let error = open_with(json!({ "fault": "constructor_panics" }))
        .await
        .unwrap_err();
    let OpenError::Constructor { error, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(error.class(), ErrorClass::Internal);
    assert!(error.message().contains("told to panic"), "{error}");
}

#[tokio::test]
async fn a_constructor_that_never_returns_is_given_up() {
    for fault in ["constructor_hangs", "constructor_blocks"] {
        let error = open_with_deadlines(json!({ "fault": fault }), IMPATIENCE, PATIENCE)
            .await
            .unwrap_err();
        assert!(
            matches!(error, OpenError::ConstructorHangs { .. }),
            "{fault}: {error}"
        );
    }
}

#[tokio::test]
async fn a_wrong_key_in_a_store_s_configuration_is_named() {
    let error = open_with(json!({ "falt": "none" })).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("falt") && text.contains("did you mean \"fault\"?"),
        "{text}"
    );
}

#[tokio::test]
async fn an_unknown_type_lists_what_there_is() {
    let (registry, report) = Folder::with_a_good_plugin().load();
    let error = registry
        .open("fixtrue", &json!({}), &report.searched)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("registered: fixture"), "{text}");
    assert!(text.contains("did you mean \"fixture\"?"), "{text}");
    assert!(
        text.contains(&report.searched[0].display().to_string()),
        "{text}"
    );
}

fn write() -> Write {
    Record {
        job_id: "job".into(),
        attempt: 1,
        ..Record::default()
    }
    .into()
}

#[tokio::test]
async fn a_panicking_method_is_an_internal_error_and_the_store_stays() {
    for fault in ["method_panics", "poll_panics"] {
        let store = open_with(json!({ "fault": fault })).await.unwrap();
        for _ in 0..2 {
            let error = store.put(write()).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Internal, "{fault}: {error}");
        }
        assert_eq!(store.get("job".into()).await, Ok(None));
    }
}

#[tokio::test]
async fn a_store_that_panics_in_drop_goes_no_further() {
    drop(open_with(json!({ "fault": "drop_panics" })).await.unwrap());
}

#[tokio::test]
async fn a_call_that_hangs_ends_at_its_deadline() {
    let store = open_with_deadlines(json!({ "fault": "call_hangs" }), PATIENCE, IMPATIENCE)
        .await
        .unwrap();
    let error = store.put(write()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

#[tokio::test]
async fn a_plugin_of_contract_1_0_works_on_this_host() {
    let store_type = load_one(&fixtures().store_1_0).unwrap();
    assert_eq!(store_type.contract, (1, 0));
    let object = store_type
        .open_within(Duration::from_secs(5), &json!({}))
        .await
        .unwrap();
    let record = Record {
        job_id: "job".into(),
        attempt: 1,
        status: Status::Completed,
        ..Record::default()
    };
    assert_eq!(
        object.put(record.clone().into()).await,
        Ok(WriteOutcome::Written)
    );
    assert_eq!(object.get("job".into()).await, Ok(Some(record)));
    let nothing = warren_plugin_api::CompletionSink::new(|| {}, |_| {});
    let error = object.subscribe(nothing).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unsupported);
    assert!(error.message().contains("older than 1.1"), "{error}");
}

#[tokio::test]
async fn a_good_plugin_describes_itself() {
    let (_, report) = Folder::with_a_good_plugin().load();
    let FileState::Loaded(store_type) = &report.files[0].state else {
        panic!("not loaded")
    };
    assert_eq!(store_type.manifest.name, "fixture");
    assert_eq!(store_type.manifest.version, "0.3.0");
    assert_eq!(store_type.contract, (1, 1));
    assert!(store_type.manifest.config_schema["properties"]["fault"].is_object());
}
