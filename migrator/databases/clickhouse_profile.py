"""What a ClickHouse user's profile may set, and no step and no proof may depend on: each session takes it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from migrator.errors import StatementRefused, WrongServer

# Reaching one is an error as long as nothing of CUTS says `break` or `any`.
LIMITS = dict.fromkeys((
    "limit", "offset", "max_execution_time", "max_execution_time_leaf", "max_estimated_execution_time", "max_rows_to_read",
    "max_bytes_to_read", "max_rows_to_read_leaf", "max_bytes_to_read_leaf", "max_result_rows", "max_result_bytes",
    "max_rows_to_group_by", "max_rows_to_sort", "max_bytes_to_sort", "max_rows_in_set", "max_bytes_in_set", "max_rows_in_join",
    "max_bytes_in_join", "max_rows_in_distinct", "max_bytes_in_distinct", "max_rows_to_transfer", "max_bytes_to_transfer",
    "max_columns_to_read", "max_temporary_columns", "max_temporary_non_const_columns", "min_execution_speed",
    "min_execution_speed_bytes", "force_index_by_date", "force_primary_key"), "0")  # fmt: skip
CUTS = dict.fromkeys((
    "read_overflow_mode", "read_overflow_mode_leaf", "result_overflow_mode", "timeout_overflow_mode",
    "timeout_overflow_mode_leaf", "group_by_overflow_mode", "sort_overflow_mode", "set_overflow_mode", "join_overflow_mode",
    "distinct_overflow_mode", "transfer_overflow_mode"), "throw")  # fmt: skip
MEANING = dict.fromkeys((
    "join_use_nulls", "data_type_default_nullable", "transform_null_in", "aggregate_functions_null_for_empty",
    "empty_result_for_aggregation_by_empty_set", "final", "group_by_use_nulls", "cast_keep_nullable", "extremes",
    "asterisk_include_materialized_columns", "asterisk_include_alias_columns", "prefer_column_name_to_alias",
    "any_join_distinct_right_table_keys", "join_any_take_last_row", "materialized_views_ignore_errors", "use_query_cache",
    "http_write_exception_in_output_format", "show_table_uuid_in_table_create_query_if_not_nil"), "0") | {
    "flatten_nested": "1", "enable_analyzer": "1", "insert_null_as_default": "1", "default_table_engine": "MergeTree",
    "union_default_mode": "", "session_timezone": "", "additional_result_filter": "", "additional_table_filters": "{}",
    "join_default_strictness": "ALL", "show_create_query_identifier_quoting_rule": "when_necessary",
    "show_create_query_identifier_quoting_style": "Backticks"}  # fmt: skip
NEUTRAL = LIMITS | CUTS | MEANING


def differing(there: Mapping[str, Any], change: Callable[[Mapping[str, str]], object], user: str) -> dict[str, str]:
    """What a session has to take back; empty for a profile that leaves these settings alone.

    A limit that the user may not change stays, for reaching it is an error. Raises WrongServer for anything else that
    it may not change, and where the profile hides the settings themselves.
    """
    if "max_threads" not in there:
        raise WrongServer(f"the profile of user {user} cuts answers off (limit, offset, max_result_rows): {len(there)}"
                          " settings were shown; give this user a profile without them")
    found, fixed = {}, []
    for name, value in NEUTRAL.items():
        if name in there and there[name].value != value:
            try:
                change({name: value})
                found[name] = value
            except StatementRefused:
                fixed += [name] * (name not in LIMITS)
    if fixed:
        raise WrongServer(f"the profile of user {user} fixes {', '.join(f'{n} = {there[n].value}' for n in fixed)}, so rows may"
                          " be left out, or mean something else, and nothing says so: let this user change it, or take it out")
    return found
