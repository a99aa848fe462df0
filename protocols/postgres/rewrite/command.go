package rewrite

import (
	"strings"
	"unicode"

	pg "github.com/pganalyze/pg_query_go/v6"
)

var transactionCommands = map[pg.TransactionStmtKind]string{
	pg.TransactionStmtKind_TRANS_STMT_BEGIN: "begin", pg.TransactionStmtKind_TRANS_STMT_START: "begin",
	pg.TransactionStmtKind_TRANS_STMT_COMMIT: "commit", pg.TransactionStmtKind_TRANS_STMT_ROLLBACK: "rollback",
	pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT: "savepoint", pg.TransactionStmtKind_TRANS_STMT_RELEASE: "release",
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:       "rollback",
	pg.TransactionStmtKind_TRANS_STMT_PREPARE:           "prepare_transaction",
	pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED:   "commit_prepared",
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED: "rollback_prepared",
}

// irregular are the commands whose name is not that of their node.
var irregular = map[string]string{
	"variable_show": "show", "close_portal": "close", "declare_cursor": "declare", "create": "create_table",
	"view": "create_view", "rule": "create_rule", "index": "create_index", "composite_type": "create_type",
	"createdb": "create_database", "dropdb": "drop_database", "create_trig": "create_trigger", "define": "create",
	"create_seq": "create_sequence", "alter_seq": "alter_sequence", "ref_mat_view": "refresh_materialized_view",
	"refresh_mat_view": "refresh_materialized_view", "check_point": "checkpoint", "sec_label": "security_label",
	"constraints_set": "set_constraints", "alter_object_schema": "alter_schema", "rename": "alter_rename",
}

// commandOf names a statement's command, as policies do.
func commandOf(n *pg.Node) string {
	switch x := n.GetNode().(type) {
	case nil:
		return "unknown"
	case *pg.Node_TransactionStmt:
		if c := transactionCommands[x.TransactionStmt.Kind]; c != "" {
			return c
		}
		return "transaction"
	case *pg.Node_VariableSetStmt:
		switch x.VariableSetStmt.Kind {
		case pg.VariableSetKind_VAR_RESET, pg.VariableSetKind_VAR_RESET_ALL:
			return "reset"
		}
		return "set"
	case *pg.Node_FetchStmt:
		if x.FetchStmt.Ismove {
			return "move"
		}
		return "fetch"
	case *pg.Node_CopyStmt:
		if x.CopyStmt.IsFrom {
			return "copy_from"
		}
		return "copy_to"
	case *pg.Node_VacuumStmt:
		if x.VacuumStmt.IsVacuumcmd {
			return "vacuum"
		}
		return "analyze"
	case *pg.Node_GrantStmt:
		if !x.GrantStmt.IsGrant {
			return "revoke"
		}
		return "grant"
	case *pg.Node_DropStmt:
		return "drop_" + object(x.DropStmt.RemoveType)
	}
	name := snake(strings.TrimSuffix(kindOf(n), "Stmt"))
	if c := irregular[name]; c != "" {
		return c
	}
	return name
}

// object names the kind of a dropped object: "table", "materialized_view".
func object(t pg.ObjectType) string {
	s := strings.ToLower(strings.TrimPrefix(t.String(), "OBJECT_"))
	if s == "matview" {
		return "materialized_view"
	}
	return s
}

func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
