package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const keyedPolicy = allowAll + `  - {name: keyed, effect: mask, identity: "*", resource: "*", fields: {public.people.ssn: token}}
`

// A keyed mask needs the key of the configuration, at the start and at each
// reload; another key shows the same value as another.
func TestMaskingKey(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.catalog = ", catalog: {user: postgres}"
	key := filepath.Join(filepath.Dir(h.config), "masking.key")
	h.write(key, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	h.more = "masking: {key_file: masking.key}\n"
	h.configure()
	h.serve()
	token := h.token("agent-a")
	if _, err := h.psqlWith(token, "-c", "create table people (id int, ssn text)", "-c", "insert into people values (1, '123-45-6789')"); err != nil {
		t.Fatal(err)
	}
	h.write(h.policy, keyedPolicy)
	h.reload("msg=reloaded process=loader")
	show := func() string {
		t.Helper()
		out, err := h.psqlWith(token, "-At", "-c", "select ssn from people")
		if err != nil || !regexp.MustCompile(`^tok_[a-z2-7]{16}\n$`).MatchString(out) {
			t.Fatalf("%q, %v", out, err)
		}
		return out
	}
	first := show()
	h.reload("msg=reloaded process=loader")
	if again := show(); again != first {
		t.Errorf("%q, and after a reload %q", first, again)
	}
	h.write(key, "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	h.reload("msg=reloaded process=loader")
	second := show()
	if second == first {
		t.Error("another key shows the same")
	}
	h.write(key, "no key")
	h.reload("reload refused")
	if third := show(); third != second {
		t.Errorf("after a bad key: %q, and not %q", third, second)
	}
	h.more = ""
	h.configure()
	h.write(h.policy, keyedPolicy)
	h.reload("reload refused")
	if third := show(); third != second || !has(h.log.String(), "public.people.ssn: mask token needs a key", "masking.key_file") {
		t.Errorf("without a key: %q", third)
	}
	if strings.Contains(h.log.String(), "0102030405") {
		t.Error("the key is in the log")
	}
}
