"""The tests of sessions that do not run over ASGI, and those that do so in each run."""

from __future__ import annotations

__all__ = ["ALWAYS", "LEFT_OUT"]

# Each test of this folder runs over ASGI too, except these. The names are without `test_`, by
# reason and module; with a parameter in brackets the test is left out with that one alone.
LEFT_OUT: dict[str, dict[str, tuple[str, ...]]] = {
    "no link comes to a server of wsrpc: bare frames are at the far end, or nothing is": {
        "access": ("without_a_connection_nothing_is_sent",),
        "bad_input": (
            "an_answer_ahead_of_a_violation_in_the_same_message_reaches_its_caller",
            "an_answer_of_the_wrong_kind_fails_its_call_alone",
            "an_answer_that_is_no_value_fails_its_call_alone",
        ),
        "closing": (
            "a_close_before_the_hello_means_that_nothing_was_begun",
            "a_violation_of_the_server_ends_the_clients_session",
            "the_bodys_own_exception_leaves_as_itself[listen]",
        ),
        "controllers": ("a_controller_can_be_called_locally_as_it_is_called_remotely",),
        "drain": (
            "a_1012_after_a_goaway_ends_what_is_left",
            "a_session_that_ended_with_1012_is_not_asked_for_again",
            "times_below_0_are_refused",
        ),
        "endings": ("a_local_stream_does_not_end_by_what_is_raised_by_hand",),
        "errors": (
            "a_class_that_is_not_known_or_whose_data_does_not_fit_is_a_plain_error",
            "a_code_that_is_not_in_the_table_is_unknown",
            "an_answer_in_front_of_a_violation_counts",
        ),
        "left_alone": ("a_server_that_asked_to_be_left_alone_is_dialled_by_no_new_session",),
        "local_failures": (
            "a_consumer_that_fell_too_far_back",
            "a_deadline_that_passes_before_the_call_is_numbered",
            "a_deadline_that_passes_later",
            "a_peer_that_drains",
            "an_answer_that_is_none",
            "an_answer_that_is_too_large",
            "an_idle_timeout",
            "arguments_that_are_not_of_the_declared_type",
            "arguments_that_are_too_large",
            "metadata_that_is_too_large",
            "too_many_calls_that_wait",
        ),
        "no_zombie": (
            "an_exception_without_a_text_reaches_the_code_that_connects",
            "neither_does_one_of_auth_url_or_headers",
        ),
        "overflow": (
            "a_local_stream_has_neither_lag_nor_losses",
            "items_that_come_after_the_end_are_not_kept",
        ),
        "prompt_connect": (
            "cancelling_connect_is_prompt",
            "timing_out_connect_is_prompt",
        ),
        "retry": ("a_local_stream_gives_what_a_remote_one_does",),
        "runtime": ("of_many_timers_those_that_were_not_removed_still_fire",),
        "threads": (
            "a_free_thread_goes_to_the_session_that_holds_the_fewest_not_to_the_first_in_line",
            "a_thread_that_was_given_to_a_call_that_is_cancelled_at_that_moment_is_free_again",
            "sessions_without_a_thread_leave_half_of_the_further_threads_to_nested_calls",
        ),
        "told_why": (
            "a_first_connection_that_does_not_come_about_ends_the_session_with_that_reason",
            "a_server_that_cannot_resume_what_was_never_asked_for_is_not_dialled_in_a_loop",
            "messages_about_a_refused_handshake_name_the_likely_causes",
            "refusals_of_credentials_count_only_while_they_follow_one_another",
            "retry_after_is_a_floor_for_the_delay",
            "wss_to_a_plain_port_and_ws_to_a_tls_port_never_produce_an_empty_reason",
        ),
        "transports": (
            "a_bad_url",
            "a_certificate_that_is_not_trusted_is_a_connect_error",
            "a_server_that_agrees_on_the_subprotocol_and_then_speaks_something_else",
            "a_server_that_never_says_hello",
            "a_server_that_says_nothing",
            "a_server_that_speaks_no_websocket",
            "a_websocket_server_that_is_none_of_wsrpcs",
            "an_address_that_is_none_is_an_error_and_no_hang",
            "an_address_that_is_taken_is_an_os_error",
            "an_unknown_codec_is_a_value_error",
            "cancelling_connect_leaves_nothing_behind",
            "cancelling_while_the_address_is_bound_leaves_nothing_behind",
            "credentials_that_cannot_be_fetched_raise_as_they_are",
            "no_such_unix_socket",
            "nobody_there",
        ),
        "uploads": ("many_answers_in_one_message_let_each_producer_clean_up",),
        "windows": (
            "a_window_shrinks_when_items_grow_and_grows_when_they_shrink[download]",
            "a_window_stays_as_it_is_for_a_consumer_that_does_not_keep_up[download]",
            "nothing_is_given_back_before_it_is_taken[download]",
            "the_window_doubles_until_it_holds_256_kib[download]",
            "where_credit_comes_back_on_arrival_the_window_grows_as_far_as_the_policy_lets_it",
        ),
    },
    "its server is another process": {
        "transports": ("serve_stops_cleanly_on_a_signal",),
        "zombies": ("keyboardinterrupt_ends_the_process",),
    },
    "a host shows a connection only after its opening handshake, so that its time begins there": {
        "access": ("the_time_for_a_hello_begins_with_the_connection",),
    },
    "the application, which lives on, holds the pair, and the pair its sessions": {
        "closing": ("a_session_that_is_over_is_forgotten",),
    },
    "while the application runs, the factory is set": {
        "exiting_tasks": (
            "the_loop_has_its_own_task_factory_again_when_the_last_session_has_gone",
        ),
    },
}

# These do so in each run, the others with `--full`.
ALWAYS: dict[str, tuple[str, ...]] = {
    "calls": ("collections_keep_their_types",),
    "drain": (
        "a_client_goes_on_at_another_server_and_no_call_fails",
        "nobody_is_let_in_while_it_drains",
        "what_is_in_flight_is_finished_and_the_session_ends_with_1012",
    ),
    "faulty_links": (
        "on_a_stalled_connection_nothing_arrives_and_nothing_fails",
        "the_connection_can_be_cut_at_each_frame_in_turn",
    ),
    "moves": ("a_token_of_one_server_is_worth_nothing_at_another",),
    "resume": (
        "a_newer_link_takes_over_and_the_older_is_told",
        "calls_made_without_a_link_wait_for_the_next",
        "connections_are_reset_and_nothing_is_lost",
        "states_come_with_their_causes",
        "when_the_window_is_over_the_session_has_ended",
    ),
    "resume_progress": ("notifications_streams_and_uploads_survive_it_as_well",),
    "streams": (
        "a_generator_never_runs_ahead_of_its_consumer_by_more_than_its_credit",
        "a_lost_connection_raises_and_runs_the_finally",
    ),
    "uploads": ("a_producer_never_runs_ahead_of_the_handler_by_more_than_its_credit",),
}
