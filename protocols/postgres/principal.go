package postgres

import "bytes"

// Who serves many people says for whom the next statements are by setting
// sallyport.principal to a token of theirs. The server is sent a setting of the
// same kind in its place: no token goes further than this.

// says is a text that says for whom the next statements are.
type says struct {
	token []byte // nil: for nobody
	local bool   // for the transaction
	text  string // what the server is sent
}

const (
	saysSet   = "SET sallyport.principal = 'proved'"
	saysLocal = "SET LOCAL sallyport.principal = 'proved'"
	saysReset = "RESET sallyport.principal"
)

// saying reads
//
//	SET [ SESSION | LOCAL ] sallyport.principal { = | TO } { 'token' | DEFAULT }
//	RESET sallyport.principal
//
// and nothing that could be read in two ways: no comment, no quoted name, no
// escape, no second statement. What names the setting in another form is
// refused; see mentions.
func saying(sql []byte) (s says, ok bool) {
	w := words{bytes.TrimRight(sql, " \t\r\n")}
	w.b = bytes.TrimRight(bytes.TrimSuffix(w.b, []byte(";")), " \t\r\n")
	switch {
	case w.word("reset"):
		s.text = saysReset
		return s, w.name() && len(w.b) == 0
	case !w.word("set"):
		return s, false
	}
	s.text = saysSet
	if w.word("local") {
		s.local, s.text = true, saysLocal
	} else {
		w.word("session")
	}
	if !w.name() || !w.char('=') && !w.word("to") {
		return s, false
	}
	if w.word("default") {
		s.text = "SET sallyport.principal TO DEFAULT"
		return s, len(w.b) == 0
	}
	if !w.char('\'') {
		return s, false
	}
	n := bytes.IndexByte(w.b, '\'')
	if n < 0 || n != len(w.b)-1 {
		return s, false
	}
	if n == 0 {
		s.text = "SET sallyport.principal = ''"
		return s, true
	}
	s.token = w.b[:n:n]
	for _, c := range s.token {
		if !tokenChar(c) {
			return s, false
		}
	}
	return s, true
}

// tokenChar: of a JWT, or of base64.
func tokenChar(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || bytes.IndexByte([]byte("-._~+/="), c) >= 0
}

// words takes a text apart from its front.
type words struct{ b []byte }

func (w *words) space() { w.b = bytes.TrimLeft(w.b, " \t\r\n") }

// word takes a word, in any case.
func (w *words) word(s string) bool {
	w.space()
	if len(w.b) < len(s) || !bytes.EqualFold(w.b[:len(s)], bytesOf(s)) || len(w.b) > len(s) && identPart(w.b[len(s)]) {
		return false
	}
	w.b = w.b[len(s):]
	return true
}

func (w *words) char(c byte) bool {
	w.space()
	if len(w.b) == 0 || w.b[0] != c {
		return false
	}
	w.b = w.b[1:]
	return true
}

const principalSetting = "sallyport.principal"

func (w *words) name() bool {
	ok := w.word(principalSetting)
	w.space()
	return ok && (len(w.b) == 0 || w.b[0] != '.')
}

// mentions reports whether a text may mean sallyport.principal in a form that is
// not understood: whatever has both of its words, or sets something to a token.
func mentions(sql []byte) bool {
	if containsFold(sql, "sallyport") && containsFold(sql, "principal") {
		return true
	}
	w := words{sql}
	if !w.word("set") {
		return false
	}
	at, _ := tokenIn(sql)
	return at >= 0
}

// containsFold reports whether b has a word of ASCII letters in any case.
func containsFold(b []byte, word string) bool {
	for i := 0; i+len(word) <= len(b); i++ {
		if b[i]|0x20 == word[0] && bytes.EqualFold(b[i:i+len(word)], bytesOf(word)) {
			return true
		}
	}
	return false
}

// tokenIn returns where something in b looks like a JWT, -1 where nothing does:
// a header, which begins with {" in base64url, and two dots.
func tokenIn(b []byte) (start, end int) {
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte("eyJ"))
		if i < 0 {
			return -1, 0
		}
		i += from
		n, dots := i, 0
		for n < len(b) && (b[n] == '.' || b[n] == '-' || b[n] == '_' || digit(b[n]) || b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z') {
			if b[n] == '.' {
				dots++
			}
			n++
		}
		if dots >= 2 {
			return i, n
		}
		from = n
	}
}

// withoutTokens is what goes on the record of a text or of binds, where tokens
// may be among them: whoever has one can present it.
func withoutTokens(b []byte) []byte {
	at, end := tokenIn(b)
	if at < 0 {
		return b
	}
	var out []byte
	for at >= 0 {
		out = append(append(out, b[:at]...), "[token]"...)
		b = b[end:]
		at, end = tokenIn(b)
	}
	return append(out, b...)
}

func saysOrMentions(sql []byte) bool {
	_, says := saying(sql)
	return says || mentions(sql)
}
