package rewrite

import (
	"regexp"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

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
	if name == "search_path" && w.freePath() {
		w.path(s.Args)
		return
	}
	if !query.Settable(name) {
		w.refuse("setting %s may not be changed", s.Name)
		w.remedy = "have the administrator set it for the role or the database"
		return
	}
	if changes := s.Kind == pg.VariableSetKind_VAR_SET_VALUE || s.Kind == pg.VariableSetKind_VAR_SET_CURRENT; changes && w.b.scope.Approves && query.Reads(name) && !exact(name, s.Args) {
		w.refuse("setting %s may not be changed where statements need approvals: what was approved must mean the same when it runs", s.Name)
		w.remedy = "set it when you connect (options, PGTZ, PGDATESTYLE), or have the administrator set it for the role"
		return
	}
	for _, a := range s.Args {
		w.byValue = true
		v, ok := constantText(a)
		if !ok {
			w.refuse("the value of setting %s is not understood", s.Name)
			return
		}
		if !query.SettingAllowed(name, v) {
			w.refuse("setting %s may not be set to this value", s.Name)
		}
	}
}

// exact reports the values of extra_float_digits that all mean the same, from
// PostgreSQL 12 on, its default among them: pgjdbc sets one in each session.
func exact(name string, args []*pg.Node) bool {
	if name != "extra_float_digits" || len(args) != 1 {
		return false
	}
	v := args[0].GetAConst().GetIval().GetIval()
	return v >= 1 && v <= 3
}

// freePath reports that search_path makes no difference: what a statement and the
// bodies that are looked at name is all that bear it. Functions that are declared
// were declared with the path that their sessions had. What is approved is a text,
// whose names must stand for the same when it runs.
func (w *walker) freePath() bool { return len(w.scope.Functions) == 0 && !w.scope.Approves }

// path refuses schemas by which a name of the server's own catalog would mean
// something else.
func (w *walker) path(schemas []*pg.Node) {
	w.byValue = true
	for _, n := range schemas {
		s, ok := constantText(n)
		if !ok || s == "" && n.GetAConst().GetSval() == nil {
			w.refuse("the value of setting search_path is not understood")
			return
		}
		if s == "pg_catalog" || strings.HasPrefix(s, "pg_temp") {
			w.refuse("setting search_path may not place %s", s)
			return
		}
	}
}

// settingCall walks set_config and current_setting of constants, which are SET and
// SHOW in other words, and reports whether a call is one.
func (w *walker) settingCall(names []string, f *pg.FuncCall) bool {
	call := names[len(names)-1]
	if w.in == nil || w.locked || len(names) > 1 && names[0] != "pg_catalog" || len(names) > 2 || len(w.snap.Functions[call]) > 0 ||
		f.Over != nil || f.AggFilter != nil || len(f.AggOrder) > 0 || f.FuncVariadic || f.AggDistinct || f.AggStar || len(f.Args) == 0 {
		return false
	}
	for _, a := range f.Args {
		if a.GetAConst() == nil {
			return false
		}
	}
	name := f.Args[0].GetAConst().GetSval()
	switch {
	case name == nil:
		return false
	case call == "current_setting":
		w.byValue = true
		return !w.masks() || shown[strings.ToLower(name.Sval)] || query.Settable(name.Sval)
	case call != "set_config" || len(f.Args) != 3 || f.Args[1].GetAConst().GetSval() == nil:
		return false
	}
	w.byValue = true
	w.command("set")
	value := f.Args[1].GetAConst().GetSval().Sval
	if strings.ToLower(name.Sval) == "search_path" {
		// A list, in which names may be quoted: those that are not are enough.
		return w.freePath() && (value == "" || plainPath.MatchString(value)) && !strings.Contains(value, "pg_")
	}
	return query.SettingAllowed(name.Sval, value) && !(w.scope.Approves && query.Reads(name.Sval))
}

var plainPath = regexp.MustCompile(`^[a-z_][a-z0-9_]*( *, *[a-z_][a-z0-9_]*)*$`)

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
	if !query.Settable(name) {
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
