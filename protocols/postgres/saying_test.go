package postgres

import (
	"strings"
	"testing"
)

// What says for whom the next statements are has one plain form, and nothing of
// its token is in what the server is sent.
func TestSaying(t *testing.T) {
	for sql, want := range map[string]string{
		"SET sallyport.principal = 'a.b-c_D'":                   saysSet,
		"  set\tsession\nSALLYPORT.PRINCIPAL\r\nTO 'a.b' \n;\n": saysSet,
		"SET sallyport.principal='a.b'":                         saysSet,
		"SET LOCAL sallyport.principal TO'a.b'":                 saysLocal,
		"reset sallyport.principal;":                            saysReset,
		"SET sallyport.principal TO default":                    "SET sallyport.principal TO DEFAULT",
		"SET sallyport.principal = ''":                          "SET sallyport.principal = ''",
	} {
		s, ok := saying([]byte(sql))
		if !ok || s.text != want || (s.token == nil) != !strings.Contains(sql, "a.b") || s.local != (want == saysLocal) || strings.Contains(s.text, "a.b") {
			t.Errorf("%q: %+v %v", sql, s, ok)
		}
	}
	for _, sql := range []string{
		"", "SET", "RESET", "RESET ALL", "SETsallyport.principal = 'a'", "SET sallyport.principalx = 'a'", "SET xsallyport.principal = 'a'", "SET sallyport.principal$ = 'a'",
		"SET sallyport.principal 'a'", "SET sallyport.principal TOx 'a'", "SET sallyport.principal = 'a' 'b'", "SET sallyport.principal = 'a'b", "SET sallyport.principal = 'a''b'",
		"SET sallyport.principal = 'a\\'", "SET sallyport.principal = 'a b'", "SET sallyport.principal = 'é'", "SET sallyport.principal = 'a';;", "SET sallyport.principal = 'a'; SELECT 1",
		"SET sallyport.principal = 'a' --", "--\nSET sallyport.principal = 'a'", "SET/**/sallyport.principal = 'a'", "SET sallyport.principal = a", "SET sallyport.principal = \"a\"",
		"SET sallyport.principal = E'a'", "SET sallyport.principal = ", "SET sallyport.principal = '", "RESET sallyport.principal, x", "RESET sallyport.principal.x", "SET sallyport.principal.x = 'a'",
		"SET sallyport.principal = DEFAULTx", "SET LOCAL SESSION sallyport.principal = 'a'", "SET\vsallyport.principal = 'a'", "SET\u00a0sallyport.principal = 'a'", "ſET sallyport.principal = 'a'",
	} {
		if s, ok := saying([]byte(sql)); ok {
			t.Errorf("%q is taken for %+v", sql, s)
		}
	}
}

// What looks like a token is cut out of what is recorded, and nothing else.
func TestWithoutTokens(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"SELECT 1":                      "SELECT 1",
		"'eyJhbGci.eyJzdWIi.c2ln-_x'":   "'[token]'",
		"a eyJ eyJa.b eyJa.b. eyJ..;":   "a eyJ eyJa.b [token] [token];",
		"x\x00eyJa.b.c\x00eyJa.b.c\x00": "x\x00[token]\x00[token]\x00",
	} {
		if got := string(withoutTokens([]byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// Nobody is taken for a person by two readings of one text: what is understood
// is a plain setting, and what is not mentions nothing or is refused.
func FuzzSaying(f *testing.F) {
	for _, s := range []string{"SET sallyport.principal = 'a.b'", "reset sallyport.principal", "SET LOCAL sallyport.principal TO DEFAULT ;", "SELECT 'sallyport.principal'"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sql []byte) {
		s, ok := saying(sql)
		if !ok {
			return
		}
		if !mentions(sql) {
			t.Errorf("%q says %+v, and is not seen to", sql, s)
		}
		plain := strings.ToLower(string(sql))
		for _, bad := range []string{"--", "/*", "\\", "\"", "$", "\x00"} {
			if strings.Contains(strings.ReplaceAll(plain, string(s.token), ""), bad) {
				t.Errorf("%q says %+v", sql, s)
			}
		}
		if strings.Count(plain, "'") > 2 || strings.Count(plain, ";") > 1 {
			t.Errorf("%q says %+v", sql, s)
		}
	})
}
