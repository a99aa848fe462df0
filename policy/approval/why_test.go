package approval_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/approval"
)

// A justification is one that can be read: what is not seen is none, and nothing in it
// acts on the lines around it.
func TestWhyIsSeen(t *testing.T) {
	for _, why := range []string{"ticket 47!", "müssen weg", "患者の重複、四七一一号。", "a b c d e f"} {
		if err := approval.CheckWhy(why); err != nil {
			t.Errorf("%q: %v", why, err)
		}
	}
	for name, why := range map[string]string{
		"spaces":             "a" + strings.Repeat(" ", 30) + "b",
		"fillers":            strings.Repeat("\u3164", 12),
		"half fillers":       strings.Repeat("\uffa0", 12),
		"Braille of no dots": strings.Repeat("\u2800", 12),
		"selectors":          "ok" + strings.Repeat("\ufe0f", 12),
		"joiners":            "ok" + strings.Repeat("\u034f", 12),
		"a line separator":   "ticket 4711\u2028proof trusted",
		"a paragraph's end":  "ticket 4711\u2029proof trusted",
		"a direction mark":   "ticket 4711 \u202e7411",
		"an escape":          "ticket 4711 \x1b[2J",
	} {
		if approval.CheckWhy(why) == nil {
			t.Errorf("%s: %q is a reason", name, why)
		}
	}
}
