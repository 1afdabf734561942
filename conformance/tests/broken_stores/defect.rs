//! What can be wrong with a store, and the cases that must find it.

/// Names each defect once, with the cases that must fail because of it.
macro_rules! defects {
    ($($name:ident => [$($case:literal),+ $(,)?],)+) => {
        /// One thing that is wrong with a store; everything else about it is right.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Defect {
            $($name),+
        }

        /// Every defect and the cases that must fail because of it.
        pub const DEFECTS: &[(Defect, &[&str])] = &[
            $((Defect::$name, &[$($case),+])),+
        ];
    };
}

defects! {
    // Identity and round trip.
    RefusesLongIds => ["identity::hostile_ids"],
    RefusesShortIds => ["identity::one_byte_ids"],
    IgnoresCase => ["identity::near_ids_stay_apart"],
    TrimsIds => ["identity::near_ids_stay_apart"],
    CutsIds => ["identity::near_ids_stay_apart"],
    UnknownIsQueued => ["identity::an_unknown_id_has_no_record"],
    UnknownIsAnError => ["identity::an_unknown_id_has_no_record"],
    StatusIsOld => ["identity::every_reader_agrees"],
    LosesHeartbeat => ["round_trip::every_field", "round_trip::extreme_times"],
    InventsWorker => ["round_trip::every_absent_field"],
    DecodesPayloads => ["round_trip::hostile_payloads_in_every_field"],
    TrimsPayloads => ["round_trip::hostile_payloads_in_every_field"],
    NullIsNothing => ["round_trip::nothing_is_not_null"],
    DropsNul => ["round_trip::hostile_texts_in_every_field"],
    EmptyErrorIsNone => ["round_trip::hostile_texts_in_every_field"],
    CutsTimes => ["round_trip::extreme_times"],
    FloatDurations => ["round_trip::extreme_numbers"],
    SignedAttempts => ["round_trip::extreme_numbers"],
    SortsExtra => ["round_trip::extra_values"],
    LosesExtra => ["round_trip::every_field", "round_trip::extra_values"],
    ExtraIsAMap => ["round_trip::extra_values"],
    MergesRecords => ["round_trip::a_write_replaces_the_whole_record"],

    // Guarded writes.
    IgnoresTheGuard => [
        "guarded_writes::stale_matrix",
        "guarded_writes::a_stale_write_changes_nothing",
        "guarded_writes::the_latest_version_stays",
    ],
    IgnoresIfAbsent => ["guarded_writes::stale_matrix", "guarded_writes::one_winner_of_a_claim"],
    GuardsAlways => ["guarded_writes::stale_matrix"],
    ExpiredGuards => [
        "guarded_writes::stale_matrix_over_expired",
        "expiry::an_expired_record_is_no_claim",
    ],
    BatchIgnoresTheGuard => ["guarded_writes::stale_matrix_in_batches"],
    StaleSetsExpiry => ["guarded_writes::a_stale_write_changes_nothing"],
    ClaimIsNotAtomic => ["guarded_writes::one_winner_of_a_claim"],
    BatchClaimIsNotAtomic => ["guarded_writes::one_winner_between_batches"],
    AtomicPerHandle => ["guarded_writes::one_winner_between_handles"],
    EndsTwice => ["guarded_writes::one_ending_of_an_attempt"],
    IgnoresAttempts => ["guarded_writes::the_latest_version_stays"],

    // Expiry.
    ReturnsExpired => ["expiry::what_has_expired_is_absent", "expiry::a_record_ends_at_its_time"],
    StatusOfExpired => ["expiry::what_has_expired_is_absent"],
    ExpiresLate => ["expiry::a_record_ends_at_its_time"],
    IgnoresExpiredWrites => ["expiry::what_has_expired_is_absent"],
    OneExpiryForAll => ["expiry::every_record_has_its_own_time"],
    KeepsFirstExpiry => ["expiry::a_write_sets_the_time_anew"],
    FarExpiryOverflows => ["expiry::far_times_are_kept"],

    // Batches.
    AnswersBackwards => ["batches::answers_come_in_order"],
    OutcomesBackwards => ["batches::answers_come_in_order"],
    AnswersOnce => ["batches::missing_and_repeated_ids"],
    RefusesEmptyBatches => ["batches::of_nothing"],
    RefusesLargeBatches => ["batches::of_ten_thousand"],
    WritesBackwards => ["batches::writes_of_one_job_act_in_order"],
    DeletesAtOnce => ["batches::deletes_act_in_order"],

    // Scans.
    SkipsSameTime => ["scan::every_page_size_lists_all"],
    ListsTwice => ["scan::every_page_size_lists_all"],
    ForgetsTheCursor => ["scan::every_page_size_lists_all"],
    PagesTooLong => ["scan::every_page_size_lists_all"],
    IgnoresFunction => ["scan::filters_are_exact"],
    EdgesAreOut => ["scan::filters_are_exact"],
    QueueIsAPrefix => ["scan::filters_by_hostile_texts"],
    TimesNeedAQueue => ["scan::filters_without_a_queue"],
    OldestFirst => ["scan::the_declared_order"],
    KeepsPayloads => ["scan::payloads_are_left_out"],
    ListsDeleted => ["scan::what_is_gone_is_not_listed", "delete::the_record_is_gone_for_every_reader"],
    ListsExpired => ["scan::what_is_gone_is_not_listed"],
    AcceptsAnyCursor => ["scan::a_foreign_cursor_is_refused"],
    CursorPerHandle => ["scan::cursors_are_plain_text"],
    BinaryCursor => ["scan::cursors_are_plain_text"],
    CursorIsAnOffset => [
        "scan_changes::what_stays_is_listed_once",
        "scan_changes::an_old_cursor_still_works",
    ],

    // Cleanup.
    CleansLive => ["cleanup::live_records_stay"],
    CleansOverTheLimit => ["cleanup::the_limit_is_kept"],
    CleansByItsClock => ["cleanup::exactly_what_expired_by_then"],
    CleansOneMore => ["cleanup::exactly_what_expired_by_then"],
    CountsWrong => ["cleanup::exactly_what_expired_by_then"],
    CleanupLeavesTheIndex => ["cleanup::nothing_is_left_in_the_index"],
    ExpiresOnlyWhenCleaned => ["cleanup::what_expires_by_itself_needs_none"],
    TidiesUpMoreThanExpired => ["cleanup::what_expires_by_itself_needs_none"],

    // Deletes.
    DeleteIsAlwaysTrue => ["delete::says_whether_a_live_record_was_there"],
    DeletesExpired => ["delete::says_whether_a_live_record_was_there"],
    DeleteLeavesTheStatus => ["delete::the_record_is_gone_for_every_reader"],
    DeleteLeavesTheGuard => ["delete::no_guard_is_left"],

    // Stats and health.
    StatsDoNotAddUp => ["stats::statuses_add_up"],
    StatsCountExpired => ["stats::live_records_are_counted"],
    StatsCountWrites => ["stats::changes_are_followed"],
    SaysNothing => ["health::says_what_answered"],
    ShowsTheSecret => ["health::no_secret_is_shown"],

    // Push.
    ForgetsBatches => ["push::every_ending_is_announced"],
    AnnouncesOnce => ["push::every_ending_is_announced"],
    NeverReady => ["push::every_ending_is_announced"],
    AnnouncesToItself => ["push::endings_through_another_handle"],
    AnnouncesStale => ["push::nothing_else_is_announced"],
    AnnouncesDeletes => ["push::nothing_else_is_announced"],
    AnnouncesTheEarlierStatus => ["push::every_ending_is_announced"],
    AnnouncesEarly => ["push::an_announced_ending_can_be_read"],
    OneSubscriber => ["push::every_subscriber_is_told"],
    NeverUnsubscribes => ["push::a_dropped_subscription_is_silent"],
    AnnouncesWithoutTheResult => ["push::a_record_comes_along_as_it_is_stored"],
    SubscriptionStays => ["push::closing_ends_a_subscription"],

    // Limits and errors.
    TakesLess => ["limits::the_largest_record_is_taken"],
    TakesMore => ["limits::one_byte_more_is_too_large", "limits::every_field_counts"],
    CountsPayloadsOnly => ["limits::every_field_counts"],
    BadItemSpoilsAll => ["limits::one_bad_item_spoils_no_other"],
    CutsLargeRecords => ["limits::large_records_come_back"],
    AbsentIsInternal => ["errors::an_absent_backend_is_unavailable"],
    UnansweredIsNone => ["errors::an_unresponsive_backend_is_given_up"],
    RefusedIsUnavailable => ["errors::wrong_credentials_are_invalid_config"],
    ShowsRefusedCredentials => ["errors::wrong_credentials_are_invalid_config"],
    FullIsTooLarge => ["errors::a_full_backend_is_unavailable"],
    FullWritesAllTheSame => ["errors::a_full_backend_is_unavailable"],
    DamagedIsAbsent => ["errors::a_damaged_record_is_corrupt_data"],
    DamagedSpoilsAll => ["errors::a_damaged_record_is_corrupt_data"],

    // Configuration and capabilities.
    DescribesNoOption => ["configuration::every_option_is_described"],
    TakesAnyOption => ["configuration::an_unknown_option_is_refused"],
    Changes => ["capabilities::never_change"],
    ClaimsMore => ["capabilities::are_no_more_than_declared"],
    EmptyInsteadOfUnsupported => ["capabilities::what_is_lacking_is_unsupported"],
    ClaimsPush => ["capabilities::what_is_declared_works"],
    NeedsAnOption => ["capabilities::an_embedded_store_needs_no_option"],

    // Concurrency, cancellation, lifecycle.
    FewCallers => ["concurrency::sixty_four_callers"],
    CachesReads => ["concurrency::what_is_acknowledged_is_seen"],
    WritesInSteps => [
        "concurrency::readers_see_whole_records",
        "cancellation::a_write_is_done_or_not",
        "cancellation::a_batch_of_writes_is_done_or_not",
    ],
    DeletesInSteps => ["cancellation::a_delete_is_done_or_not"],
    ClaimsInSteps => ["cancellation::a_dropped_claim_is_one_claim"],
    LandsLate => ["cancellation::later_writes_are_not_undone"],
    DroppedReadBlocks => ["cancellation::readers_can_be_dropped"],
    CloseFails => ["lifecycle::closing_twice_succeeds"],
    CloseEndsAll => ["lifecycle::other_handles_stay_open"],
    CloseBreaksCalls => ["lifecycle::calls_during_close_end"],
    IsNotDurable => [
        "lifecycle::records_outlive_the_handle",
        "lifecycle::records_outlive_a_handle_that_was_not_closed",
    ],
    Panics => ["health::says_what_answered"],
    Hangs => ["health::says_what_answered"],
}

/// Cases that no store can fail, with the reason.
pub const SURE: &[(&str, &str)] = &[(
    "lifecycle::a_closed_store_is_unavailable",
    "the SDK refuses calls after close before the store sees them",
)];
