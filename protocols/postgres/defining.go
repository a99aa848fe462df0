package postgres

import (
	"bytes"
	"slices"
)

// undefining are the commands that define nothing themselves.
var undefining = map[string]bool{
	"select": true, "insert": true, "update": true, "delete": true, "merge": true, "values": true, "table": true, "with": true,
	"fetch": true, "move": true, "close": true, "declare": true, "copy": true, "prepare": true, "deallocate": true,
	"begin": true, "start": true, "commit": true, "end": true, "rollback": true, "abort": true, "savepoint": true, "release": true,
	"set": true, "reset": true, "show": true, "lock": true, "listen": true, "unlisten": true, "notify": true,
	"analyze": true, "vacuum": true, "truncate": true, "checkpoint": true, "empty": true,
}

// harmless are words before a parenthesis that call nothing, and functions of the
// server that define nothing.
var harmless = map[string]bool{}

func init() {
	for _, w := range bytes.Fields([]byte(`
all and any array as between by case cast char character check conflict cube current_time current_timestamp decimal distinct else
except exists extract filter float from group grouping having if ilike in include interval intersect into is join key lateral like limit
localtime localtimestamp materialized not numeric nchar offset on only or order over overlay partition position returning rollup row select
set sets similar some substring table then time timestamp treat trim union using values varchar varying when where window with within
abs age array_agg array_length array_to_string avg bool_and bool_or btrim ceil ceiling char_length coalesce concat concat_ws count
current_database current_schema current_setting date_part date_trunc dense_rank exp first_value floor format format_type generate_series
greatest has_table_privilege initcap json_agg json_build_array json_build_object jsonb_agg jsonb_build_object jsonb_set json_object_agg
lag last_value lead least left length ln log lower lpad ltrim make_date max md5 min mod nextval now ntile nullif
pg_backend_pid pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_userbyid pg_get_viewdef pg_is_in_recovery pg_sleep pg_table_is_visible
power quote_ident quote_literal random rank regexp_replace repeat replace reverse right round row_number row_to_json rpad rtrim
setval sign split_part sqrt starts_with string_agg strpos substr sum to_char to_date to_json to_jsonb to_number to_timestamp
translate trunc unnest upper version`)) {
		harmless[string(w)] = true
	}
}

// mayDefine reports whether a text that is not analysed may define something: by a
// command that does, or by a function that it calls, of which nothing is known. What
// is called by a view, a trigger or an operator is not named in it, and not seen.
func mayDefine(norm []byte, commands []string) bool {
	if slices.ContainsFunc(commands, func(cmd string) bool { return !undefining[cmd] }) {
		return true
	}
	if containsWord(norm, "prepared") || containsWord(norm, "into") && slices.Contains(commands, "select") {
		return true // COMMIT PREPARED, SELECT INTO
	}
	for i, b := range norm {
		if b == '(' && calls(norm[:i]) {
			return true
		}
	}
	return false
}

// calls reports whether what stands before a parenthesis may be a function's name
// that is not known for harmless.
func calls(before []byte) bool {
	before = bytes.TrimRight(before, " ")
	end := len(before)
	for end > 0 && inName(before[end-1]) {
		end--
	}
	word := before[end:]
	if len(word) == 0 || harmless[string(bytes.ToLower(word))] {
		return false
	}
	return !insertsInto(before[:end])
}

// insertsInto reports whether a text ends with INSERT INTO: what follows is a table's
// name.
func insertsInto(b []byte) bool {
	f := bytes.Fields(b[max(0, len(b)-32):])
	return len(f) > 1 && bytes.EqualFold(f[len(f)-1], []byte("into")) && bytes.EqualFold(f[len(f)-2], []byte("insert"))
}

// inName reports whether a byte may be of a name, with its schema, and its quotes.
func inName(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '$' || b == '.' || b == '"' || b >= 0x80
}

func containsWord(b []byte, word string) bool {
	for i := 0; i+len(word) <= len(b); i++ {
		if bytes.EqualFold(b[i:i+len(word)], []byte(word)) && (i == 0 || !inName(b[i-1])) && (i+len(word) == len(b) || !inName(b[i+len(word)])) {
			return true
		}
	}
	return false
}
