package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

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

func (w *walker) set(s *pg.VariableSetStmt) {
	name := strings.ToLower(s.Name)
	switch s.Kind {
	case pg.VariableSetKind_VAR_RESET_ALL:
		return
	case pg.VariableSetKind_VAR_SET_MULTI:
		// SET TRANSACTION and SET SESSION CHARACTERISTICS; a snapshot is
		// another session's view.
		if name != "transaction" && name != "session characteristics" {
			w.refuse("SET %s is not understood", s.Name)
		}
		return
	case pg.VariableSetKind_VAR_SET_VALUE, pg.VariableSetKind_VAR_SET_DEFAULT, pg.VariableSetKind_VAR_RESET, pg.VariableSetKind_VAR_SET_CURRENT:
	default:
		w.refuse("SET %s is not understood", s.Name)
		return
	}
	may, ok := settable[name]
	if !ok {
		w.refuse("setting %s may not be changed", s.Name)
		w.remedy = "have the administrator set it for the role or the database"
		return
	}
	for _, a := range s.Args {
		v, ok := constantText(a)
		if !ok {
			w.refuse("the value of setting %s is not understood", s.Name)
			return
		}
		if may != nil && !may(v) {
			w.refuse("setting %s may not be set to this value", s.Name)
		}
	}
}

// constantText returns the text of a constant in SET; a number that no check
// looks at is "".
func constantText(n *pg.Node) (string, bool) {
	if c := n.GetTypeCast(); c != nil { // SET TIME ZONE INTERVAL '...'
		n = c.Arg
	}
	c := n.GetAConst()
	if c == nil {
		return "", false
	}
	if s := c.GetSval(); s != nil {
		return s.Sval, true
	}
	return "", true
}

// hidden are settings that are not shown: they hold what a session or an
// administrator put there.
func (w *walker) show(s *pg.VariableShowStmt) {
	name := strings.ToLower(s.Name)
	if !w.masks() || shown[name] {
		return
	}
	if _, ok := settable[name]; !ok {
		w.refuse("setting %s is not shown", s.Name)
	}
}

var shown = map[string]bool{
	"server_version": true, "server_version_num": true, "server_encoding": true, "search_path": true, "is_superuser": true,
	"session_authorization": true, "role": true, "in_hot_standby": true, "integer_datetimes": true, "max_identifier_length": true,
	"max_index_keys": true, "lc_collate": true, "lc_ctype": true, "block_size": true, "max_connections": true,
	"default_tablespace": true, "temp_tablespaces": true, "row_security": true, "transaction isolation level": true,
	"time zone": true, "session authorization": true,
}
