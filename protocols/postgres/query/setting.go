package query

import "strings"

// settable are the settings that a session may change: none alters what a
// name or a text means, who runs, or what is logged. The value says what it
// may be set to, nil anything.
var settable = map[string]func(string) bool{
	"application_name": nil, "statement_timeout": nil, "lock_timeout": nil, "idle_in_transaction_session_timeout": nil,
	"idle_session_timeout": nil, "extra_float_digits": nil, "datestyle": nil, "timezone": nil, "intervalstyle": nil,
	"client_min_messages": isQuiet, "bytea_output": nil, "work_mem": nil, "temp_buffers": nil, "geqo": nil, "jit": nil,
	"enable_seqscan": nil, "enable_indexscan": nil, "enable_bitmapscan": nil, "enable_hashjoin": nil, "enable_mergejoin": nil,
	"enable_nestloop": nil, "enable_hashagg": nil, "enable_sort": nil, "enable_material": nil, "enable_indexonlyscan": nil,
	"max_parallel_workers_per_gather": nil, "random_page_cost": nil, "cursor_tuple_fraction": nil, "default_statistics_target": nil,
	// Of the planner: which way is taken to the same rows.
	"enable_memoize": nil, "enable_incremental_sort": nil, "enable_presorted_aggregate": nil, "enable_gathermerge": nil, "enable_tidscan": nil,
	"enable_parallel_append": nil, "enable_parallel_hash": nil, "enable_async_append": nil,
	"enable_partition_pruning": nil, "enable_partitionwise_join": nil, "enable_partitionwise_aggregate": nil,
	"seq_page_cost": nil, "cpu_tuple_cost": nil, "cpu_index_tuple_cost": nil, "cpu_operator_cost": nil, "effective_cache_size": nil,
	"parallel_setup_cost": nil, "parallel_tuple_cost": nil, "min_parallel_table_scan_size": nil, "min_parallel_index_scan_size": nil,
	"jit_above_cost": nil, "jit_inline_above_cost": nil, "jit_optimize_above_cost": nil,
	"geqo_threshold": nil, "from_collapse_limit": nil, "join_collapse_limit": nil, "constraint_exclusion": nil, "hash_mem_multiplier": nil,
	"default_transaction_isolation": nil, "default_transaction_read_only": nil, "default_transaction_deferrable": nil,
	"transaction_isolation": nil, "transaction_read_only": nil, "transaction_deferrable": nil, "synchronous_commit": nil,
	"lc_monetary": nil, "lc_numeric": nil, "lc_time": nil, "xmloption": nil, "xmlbinary": nil, "gin_fuzzy_search_limit": nil,
	"force_parallel_mode": nil, "plan_cache_mode": nil, "seed": nil, "quote_all_identifiers": nil,
	"client_encoding":             isUTF8,
	"names":                       isUTF8,
	"standard_conforming_strings": isOn,
	"escape_string_warning":       nil,
	"backslash_quote":             nil,
	"array_nulls":                 isOn,
	"transform_null_equals":       func(v string) bool { return !isOn(v) },
}

// isQuiet: at log and debug levels the server's own log comes to the client.
func isQuiet(v string) bool {
	v = strings.ToLower(v)
	return v == "notice" || v == "warning" || v == "error"
}

func isUTF8(v string) bool {
	v = strings.ToLower(v)
	return v == "utf8" || v == "utf-8" || v == "unicode"
}

func isOn(v string) bool {
	v = strings.ToLower(v)
	return v == "on" || v == "true" || v == "1" || v == "yes"
}

// SettingAllowed reports whether a client may set a parameter to a value, at
// the start of a session or by SET.
func SettingAllowed(name, value string) bool {
	may, ok := settable[strings.ToLower(name)]
	return ok && (may == nil || may(value))
}

// Reads reports whether a setting says what values and texts are to each other, or
// which rows there are: what a condition comes to may depend on it.
func Reads(name string) bool {
	switch strings.ToLower(name) {
	case "datestyle", "intervalstyle", "timezone", "lc_monetary", "lc_numeric", "lc_time", "xmloption", "xmlbinary",
		"extra_float_digits", "bytea_output", "quote_all_identifiers", "gin_fuzzy_search_limit", "transform_null_equals", "array_nulls", "seed":
		return true
	}
	return false
}

// Settable reports whether a client may set a parameter to some value.
func Settable(name string) bool {
	_, ok := settable[strings.ToLower(name)]
	return ok
}
