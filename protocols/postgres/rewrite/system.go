package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// systemRelations are the server's own relations that a masked identity may
// read, with the columns that are shown as NULL: what holds, or may hold,
// constants of expressions. A column behind a "?" is shown when no definition
// of its kind holds a constant (i indexes, c constraints, d defaults), or when how
// many rows there are tells nothing (f). What is not listed is refused: statistics, activity, settings, passwords, files,
// large objects, prepared statements, cursors.
var systemRelations = parseSystem(`
pg_catalog.pg_aggregate agginitval aggminitval
pg_catalog.pg_am
pg_catalog.pg_amop
pg_catalog.pg_amproc
pg_catalog.pg_attrdef adbin?d
pg_catalog.pg_attribute attmissingval attoptions attfdwoptions
pg_catalog.pg_auth_members
pg_catalog.pg_available_extensions
pg_catalog.pg_cast
pg_catalog.pg_class relpartbound reloptions reltuples?f relpages?f relallvisible?f relallfrozen?f
pg_catalog.pg_collation
pg_catalog.pg_constraint conbin?c
pg_catalog.pg_conversion
pg_catalog.pg_database
pg_catalog.pg_default_acl
pg_catalog.pg_depend
pg_catalog.pg_description
pg_catalog.pg_enum
pg_catalog.pg_event_trigger
pg_catalog.pg_extension
pg_catalog.pg_group
pg_catalog.pg_index indexprs?i indpred?i
pg_catalog.pg_indexes indexdef?i
pg_catalog.pg_inherits
pg_catalog.pg_language
pg_catalog.pg_matviews definition
pg_catalog.pg_namespace
pg_catalog.pg_opclass
pg_catalog.pg_operator
pg_catalog.pg_opfamily
pg_catalog.pg_partitioned_table partexprs
pg_catalog.pg_policies qual with_check
pg_catalog.pg_policy polqual polwithcheck
pg_catalog.pg_proc prosrc probin prosqlbody proargdefaults proconfig
pg_catalog.pg_publication
pg_catalog.pg_publication_namespace
pg_catalog.pg_publication_rel prqual
pg_catalog.pg_publication_tables rowfilter
pg_catalog.pg_range
pg_catalog.pg_rewrite ev_qual ev_action
pg_catalog.pg_roles rolpassword rolconfig
pg_catalog.pg_rules definition
pg_catalog.pg_sequence
pg_catalog.pg_sequences last_value
pg_catalog.pg_shdepend
pg_catalog.pg_shdescription
pg_catalog.pg_statistic_ext stxexprs
pg_catalog.pg_tables
pg_catalog.pg_tablespace spcoptions
pg_catalog.pg_timezone_abbrevs
pg_catalog.pg_timezone_names
pg_catalog.pg_transform
pg_catalog.pg_trigger tgqual tgargs
pg_catalog.pg_ts_config
pg_catalog.pg_ts_config_map
pg_catalog.pg_ts_dict dictinitoption
pg_catalog.pg_ts_parser
pg_catalog.pg_ts_template
pg_catalog.pg_type typdefaultbin typdefault
pg_catalog.pg_user passwd useconfig
pg_catalog.pg_views definition
information_schema.administrable_role_authorizations
information_schema.applicable_roles
information_schema.attributes attribute_default
information_schema.character_sets
information_schema.check_constraint_routine_usage
information_schema.check_constraints check_clause?c
information_schema.collation_character_set_applicability
information_schema.collations
information_schema.column_column_usage
information_schema.column_domain_usage
information_schema.column_privileges
information_schema.column_udt_usage
information_schema.columns column_default?d generation_expression?d
information_schema.constraint_column_usage
information_schema.constraint_table_usage
information_schema.data_type_privileges
information_schema.domain_constraints
information_schema.domain_udt_usage
information_schema.domains domain_default
information_schema.element_types domain_default
information_schema.enabled_roles
information_schema.information_schema_catalog_name
information_schema.key_column_usage
information_schema.parameters parameter_default
information_schema.referential_constraints
information_schema.role_column_grants
information_schema.role_table_grants
information_schema.role_usage_grants
information_schema.routines routine_definition
information_schema.schemata
information_schema.sequences
information_schema.sql_features
information_schema.sql_implementation_info
information_schema.sql_sizing
information_schema.table_constraints
information_schema.table_privileges
information_schema.tables
information_schema.triggered_update_columns
information_schema.triggers action_condition action_statement
information_schema.udt_privileges
information_schema.usage_privileges
information_schema.user_defined_types
information_schema.view_column_usage
information_schema.view_routine_usage
information_schema.view_table_usage
information_schema.views view_definition
`)

func parseSystem(s string) map[string][]string {
	m := map[string][]string{}
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) > 0 {
			m[f[0]] = f[1:]
		}
	}
	return m
}

// system guards one of the server's own relations.
func (b *binding) system(g *guard) {
	r := g.rel
	hidden, ok := systemRelations[r.Schema+"."+r.Name]
	if !ok {
		g.opaque = fmt.Sprintf("%s.%s is not among the catalog relations that a masked identity may read", r.Schema, r.Name)
		return
	}
	for _, h := range hidden {
		name, when, _ := strings.Cut(h, "?")
		c := r.Column(name)
		if c == nil || when != "" && !holds(b.snap.Literals, when) && !(when == "f" && b.countsTell()) {
			continue
		}
		if g.columns == nil {
			g.columns = map[string]*protection{}
		}
		null := nullOf(b.base(c.Type))
		g.columns[name] = &protection{derived: true, value: null, null: null}
	}
}

// countsTell reports whether the number of rows in a relation or an index tells of
// what is protected: where rows are filtered, and where a masked column decides which
// are in a partition or in an index. The binding is locked.
func (b *binding) countsTell() bool {
	if len(b.scope.Filters) > 0 {
		return true
	}
	for _, r := range b.snap.ByOID {
		partial := slices.ContainsFunc(r.Indexes, func(i *catalog.Index) bool { return i.Predicate != "" })
		if r.System() || r.Partitioned == nil && !partial {
			continue
		}
		g := b.guardLocked(r)
		if b.byProtected(g) || partial && g.opaque != "" {
			return true
		}
		for _, i := range r.Indexes {
			if i.Predicate == "" || len(g.columns) == 0 {
				continue
			}
			cols := b.columnsOf(i.Predicate)
			if len(cols) == 0 || slices.ContainsFunc(cols, g.stored) {
				return true
			}
		}
	}
	return false
}

func holds(l catalog.Literals, kind string) bool {
	return kind == "i" && l.Indexes || kind == "c" && l.Constraints || kind == "d" && l.Defaults
}
