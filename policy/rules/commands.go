package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sallyport.dev/sallyport/policy"
)

// Commands that a rule must name to allow them: "*" is not enough.
const (
	functionCall = "function_call"
	replication  = "replication"
	undecoded    = "undecoded" // a session that can't be read
)

// login is the start of a session, as a command for rules that block.
const login = "login"

// definition stands for a definition whose command is not known.
const definition = "define"

// Groups of commands; ddl is every command that no other group has.
var groups = map[string][]string{
	"session": strings.Fields(`begin commit rollback savepoint release transaction set reset show discard set_constraints
		prepare execute deallocate declare fetch move close empty`),
	"read":  strings.Fields(`select copy_to explain`),
	"write": strings.Fields(`insert update delete merge copy_from truncate lock`),
	"ddl": strings.Fields(`alter_collation alter_database alter_database_refresh_coll alter_database_set alter_default_privileges alter_domain
		alter_enum alter_event_trig alter_extension alter_extension_contents alter_fdw alter_foreign_server alter_function alter_object_depends
		alter_op_family alter_operator alter_owner alter_policy alter_publication alter_rename alter_role alter_role_set alter_schema
		alter_sequence alter_stats alter_subscription alter_system alter_table alter_table_move_all alter_table_space_options
		alter_tsconfiguration alter_tsdictionary alter_type alter_user_mapping analyze call checkpoint cluster comment commit_prepared create
		create_am create_cast create_conversion create_database create_domain create_enum create_event_trig create_extension create_fdw
		create_foreign_server create_foreign_table create_function create_index create_op_class create_op_family create_plang create_policy
		create_publication create_range create_role create_rule create_schema create_sequence create_stats create_subscription create_table
		create_table_as create_table_space create_transform create_trigger create_type create_user_mapping create_view do drop_access_method
		drop_aggregate drop_cast drop_collation drop_conversion drop_database drop_domain drop_event_trigger drop_extension drop_fdw
		drop_foreign_server drop_foreign_table drop_function drop_index drop_language drop_materialized_view drop_opclass drop_operator
		drop_opfamily drop_owned drop_policy drop_procedure drop_publication drop_role drop_routine drop_rule drop_schema drop_sequence
		drop_statistic_ext drop_subscription drop_table drop_table_space drop_transform drop_trigger drop_tsconfiguration drop_tsdictionary
		drop_tsparser drop_tstemplate drop_type drop_user_mapping drop_view grant grant_role import_foreign_schema load prepare_transaction
		reassign_owned refresh_materialized_view reindex replica_identity revoke rollback_prepared rule security_label select_into vacuum`),
}

// loose are commands outside of the groups that reach no relation.
var loose = []string{"listen", "unlisten", "notify"}

// reporting are the definitions that always come with the relation they
// reach. Others may reach what the analysis does not list.
var reporting = set("create_table create_table_as select_into create_index create_view alter_table alter_rename drop_table drop_view drop_materialized_view drop_sequence")

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// class is what is known of a command.
type class struct {
	accesses uint16 // bit per policy.Access that it brings
	session  bool   // harmless by itself
}

var classes = func() map[string]class {
	m := map[string]class{}
	for _, c := range groups["session"] {
		m[c] = class{session: true}
	}
	for _, c := range loose {
		m[c] = class{}
	}
	for _, c := range []string{login, functionCall, replication, undecoded} {
		m[c] = class{}
	}
	// Of what it explains. Definitions are not explained.
	m["explain"] = class{accesses: 1<<policy.Define - 1}
	for c, as := range map[string][]policy.Access{
		"select": {policy.Read}, "copy_to": {policy.Read}, "insert": {policy.Insert}, "copy_from": {policy.Insert},
		"update": {policy.Update}, "delete": {policy.Delete}, "merge": {policy.Insert, policy.Update, policy.Delete},
		"truncate": {policy.Truncate}, "lock": {policy.Lock},
	} {
		var bits uint16
		for _, a := range as {
			bits |= 1 << a
		}
		m[c] = class{accesses: bits}
	}
	return m
}()

// classOf: a command that is not known defines something.
func classOf(command string) class {
	if c, ok := classes[command]; ok {
		return c
	}
	return class{accesses: 1 << policy.Define}
}

func (c class) brings(a policy.Access) bool { return c.accesses&(1<<a) != 0 }

// plain are the commands of which one must be granted for an access that no
// command of the statement brings: of a cursor, a prepared statement, or the
// query below an INSERT. The first is its plain name.
func plain(a policy.Access) []string {
	switch a {
	case policy.Read:
		return []string{"select"}
	case policy.Insert:
		return []string{"insert"}
	case policy.Update:
		return []string{"update"}
	case policy.Delete:
		return []string{"delete"}
	case policy.Truncate:
		return []string{"truncate"}
	case policy.Lock:
		return []string{"lock", "update", "delete"}
	}
	return []string{definition}
}

// commandSet is a set of commands. The zero set is empty.
type commandSet struct {
	all   bool
	ddl   bool // everything that defines, known or not
	named map[string]bool
}

func (s *commandSet) has(c string) bool {
	return s.all || s.named[c] || s.ddl && classOf(c).brings(policy.Define)
}

// add adds a name, a group or a pattern.
func (s *commandSet) add(word string) error {
	if s.named == nil {
		s.named = map[string]bool{}
	}
	switch word {
	case "*":
		s.all = true
		return nil
	case functionCall, replication, undecoded:
		s.named[word] = true
		return nil
	}
	if g, ok := groups[word]; ok {
		s.ddl = s.ddl || word == "ddl"
		for _, c := range g {
			s.named[c] = true
		}
		return nil
	}
	g, err := parseGlob(word)
	if err != nil {
		return err
	}
	found := false
	for _, c := range knownCommands {
		if g.match(c) {
			s.named[c], found = true, true
		}
	}
	if !found {
		return fmt.Errorf("command %q is not known: use *, read, write, ddl, session, or a command's name in lower case, like select or drop_table", word)
	}
	return nil
}

// knownCommands are what names and patterns of a policy may mean.
var knownCommands = func() []string {
	m := map[string]bool{login: true}
	for _, g := range groups {
		for _, c := range g {
			m[c] = true
		}
	}
	for _, c := range loose {
		m[c] = true
	}
	return slices.Sorted(maps.Keys(m))
}()
