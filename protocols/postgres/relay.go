package postgres

import (
	"bytes"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// reads are the commands that are taken for reading where nothing is analysed:
// their event need not be durable before they are sent, only before they are
// answered.
var reads = map[string]bool{
	"select": true, "show": true, "fetch": true, "values": true, "table": true, "begin": true, "start": true,
	"commit": true, "end": true, "rollback": true, "abort": true, "savepoint": true, "release": true, "set": true,
	"reset": true, "empty": true, "declare": true, "close": true, "discard": true, "deallocate": true, "move": true,
}

// maxStatements of one text are told of.
const maxStatements = 1000

// relayed is what the first words of a text's statements tell of it, where
// nothing is analysed. A literal or a function may hide more: what a statement
// does to the session's names beyond that is not seen.
func relayed(norm, sql []byte, sc *policy.Scope) *query.Analysis {
	an := &query.Analysis{ScopeID: sc.ID, DDL: true} // for all that is known
	note := func(cmd string) {
		an.Commands = append(an.Commands, cmd)
		an.Writes = an.Writes || !reads[cmd]
		switch cmd {
		case "deallocate":
			an.Deallocates = []string{"*"}
		case "close":
			an.Closes = []string{"*"}
		case "discard", "unknown":
			an.Deallocates, an.Closes = []string{"*"}, []string{"*"}
		}
	}
	whole := true
	for s := range bytes.SplitSeq(norm, []byte(";")) {
		if whole = len(an.Commands) < maxStatements; !whole {
			break
		}
		s = bytes.TrimLeft(s, " (")
		switch cmd := token.Command(s); {
		case cmd != "":
			note(cmd)
		case len(s) > 0:
			note("unknown")
		}
	}
	switch {
	case !whole, bytes.Contains(sql, []byte(`\'`)): // there, where a literal ends depends on a setting
		note("unknown")
		note("copy")
	case an.Commands == nil:
		note("empty")
	}
	return an
}
