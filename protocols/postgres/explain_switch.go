package postgres

import (
	"bytes"
	"strings"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// A client asks what would be decided about its statements by setting
// sallyport.explain to on. The server is sent the setting too, so that whether
// it may be set just now, and until when it holds, are the server's own.

const explainSetting = "sallyport.explain"

// switching is a text that says whether the next statements are explained.
type switching struct {
	on, local bool
	text      string // what the server is sent
}

// switches reads
//
//	SET [ SESSION | LOCAL ] sallyport.explain { = | TO } { on | off | ... | DEFAULT }
//	RESET sallyport.explain
//
// and nothing that could be read in two ways: no comment, no quoted name, no
// second statement. What names the setting in another form is refused; see
// namesExplain.
func switches(sql []byte) (s switching, ok bool) {
	w := words{bytes.TrimRight(sql, " \t\r\n")}
	w.b = bytes.TrimRight(bytes.TrimSuffix(w.b, []byte(";")), " \t\r\n")
	if w.word("reset") {
		s.text = "RESET sallyport.explain"
		return s, w.word(explainSetting) && len(w.b) == 0
	}
	if !w.word("set") {
		return s, false
	}
	s.text = "SET "
	if w.word("local") {
		s.local, s.text = true, "SET LOCAL "
	} else {
		w.word("session")
	}
	if !w.word(explainSetting) || !w.char('=') && !w.word("to") {
		return s, false
	}
	s.text += explainSetting
	if w.word("default") {
		s.text += " TO DEFAULT"
		return s, len(w.b) == 0
	}
	w.space()
	switch strings.ToLower(string(w.b)) {
	case "on", "true", "yes", "1", "'on'", "'true'", "'yes'", "'1'":
		s.on = true
		s.text += " = 'on'"
	case "off", "false", "no", "0", "'off'", "'false'", "'no'", "'0'":
		s.text += " = 'off'"
	default:
		return s, false
	}
	return s, true
}

// namesExplain reports whether a text names the setting, in any case, with
// quotes or with space about its dot. It is looked at before every statement.
func namesExplain(sql []byte) bool {
	for {
		i := bytes.IndexByte(sql, '.')
		if i < 0 {
			return false
		}
		before := bytes.TrimRight(sql[:i], " \t\r\n\"")
		after := bytes.TrimLeft(sql[i+1:], " \t\r\n\"")
		if endsFold(before, "sallyport") && len(after) >= 7 && bytes.EqualFold(after[:7], []byte("explain")) {
			return true
		}
		sql = sql[i+1:]
	}
}

func endsFold(b []byte, word string) bool {
	return len(b) >= len(word) && bytes.EqualFold(b[len(b)-len(word):], bytesOf(word))
}

// showsExplain reports that a text only asks whether it is on.
func showsExplain(sql []byte) bool {
	w := words{bytes.TrimRight(sql, " \t\r\n;")}
	return w.word("show") && w.word(explainSetting) && len(w.b) == 0
}

// statement is a switching's analysis. It is of one use: its verdict is not kept.
func (s *switching) statement(sc *policy.Scope) *statement {
	norm, _ := token.Normalize(nil, s.text, nil)
	an := &query.Analysis{Commands: []string{token.Command(norm)}, ScopeID: sc.ID}
	return &statement{an: an, normalized: string(norm), fingerprint: token.Fingerprint(norm)}
}

// mark is what a step does to settings of the passage's own.
type mark struct {
	kind    markKind
	name    string // of a savepoint
	explain setTo[bool]
	why     setTo[string]
}

func (m *mark) sets() bool { return m.explain.is || m.why.is }

type markKind uint8

const (
	markNone markKind = iota
	markSet
	markSavepoint
	markRelease
	markRollbackTo
	markOther // a beginning or an end of a transaction, or nothing
)

// markOf reads what of a text runs although statements are explained: the
// beginning and the end of transactions and savepoints, for whoever asks is to
// stay in step with the server; what turns it off; and the empty statement. ok is
// false for all others, and for whatever is not understood.
func markOf(st *statement) (m mark, ok bool) {
	text := strings.TrimRight(st.normalized, " ;")
	w := words{bytesOf(text)}
	none := func() bool { w.space(); return len(w.b) == 0 }
	m.kind = markOther
	switch {
	case text == "": // or the text is not known
		return m, len(st.an.Commands) == 1 && st.an.Commands[0] == "empty"
	case w.word("begin"):
		w.either("work", "transaction")
		return m, w.plain()
	case w.word("start"):
		return m, w.word("transaction") && w.plain()
	case w.word("commit"), w.word("end"):
		w.either("work", "transaction")
		return m, w.chain() && none()
	case w.word("abort"):
		w.either("work", "transaction")
		return m, w.chain() && none()
	case w.word("rollback"):
		w.either("work", "transaction")
		if !w.word("to") {
			return m, w.chain() && none()
		}
		w.word("savepoint")
		m.kind = markRollbackTo
	case w.word("savepoint"):
		m.kind = markSavepoint
	case w.word("release"):
		w.word("savepoint")
		m.kind = markRelease
	case w.word("discard"), w.word("reset"):
		if w.word("all") && none() {
			m = mark{kind: markSet, explain: setTo[bool]{is: true}, why: setTo[string]{is: true}}
		}
		return m, m.sets()
	default:
		return m, false
	}
	m.name, ok = w.ident()
	return m, ok && none()
}

func (w *words) either(a, b string) { _ = w.word(a) || w.word(b) }

// chain takes AND [ NO ] CHAIN, if it is there.
func (w *words) chain() bool {
	if !w.word("and") {
		return true
	}
	w.word("no")
	return w.word("chain")
}

// plain reports that only words and commas are left.
func (w *words) plain() bool {
	return len(bytes.Trim(w.b, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ,")) == 0 &&
		bytes.IndexFunc(w.b, func(r rune) bool { return r != ' ' && r != ',' && (r|0x20 < 'a' || r|0x20 > 'z') }) < 0
}

// ident takes a name as the server has it.
func (w *words) ident() (string, bool) {
	w.space()
	n := 0
	if len(w.b) > 0 && w.b[0] == '"' {
		var name []byte
		for n = 1; n < len(w.b); n++ {
			if w.b[n] == '"' {
				if n+1 == len(w.b) || w.b[n+1] != '"' {
					break
				}
				n++
			}
			name = append(name, w.b[n])
		}
		if n >= len(w.b) || len(name) == 0 {
			return "", false
		}
		w.b = w.b[n+1:]
		return string(name[:min(len(name), maxName)]), true
	}
	for n < len(w.b) && identPart(w.b[n]) {
		n++
	}
	if n == 0 || n < len(w.b) && w.b[n] == '&' {
		return "", false
	}
	name := bytes.ToLower(w.b[:n])
	for _, c := range name {
		if c >= 0x80 { // how it is folded depends on the server's locale
			return "", false
		}
	}
	w.b = w.b[n:]
	return string(name[:min(len(name), maxName)]), true
}
