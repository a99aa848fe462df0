package identity_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/identity"
)

func actors(t testing.TB, claims string) ([]string, error) {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(claims), &m); err != nil {
		t.Fatal(err)
	}
	return identity.Actors(m, "https://i")
}

func TestActors(t *testing.T) {
	deep := strings.Repeat(`{"sub":"x","act":`, 8) + `{"sub":"x"}` + strings.Repeat("}", 8)
	eight := strings.Repeat(`{"sub":"x","act":`, 7) + `{"sub":"x"}` + strings.Repeat("}", 7)
	for claims, want := range map[string][]string{
		`{}`:                                                 {},
		`{"act":{"sub":"a"}}`:                                {"a"},
		`{"act":{"sub":"a","iss":"https://i"}}`:              {"a"},
		`{"act":{"sub":"b","act":{"sub":"a"}}}`:              {"b", "a"},
		`{"act":` + eight + `}`:                              slices.Repeat([]string{"x"}, 8),
		`{"act":` + deep + `}`:                               nil,
		`{"act":null}`:                                       nil,
		`{"act":"a"}`:                                        nil,
		`{"act":[{"sub":"a"}]}`:                              nil,
		`{"act":{}}`:                                         nil,
		`{"act":{"sub":""}}`:                                 nil,
		`{"act":{"sub":7}}`:                                  nil,
		`{"act":{"sub":"a","iss":"https://j"}}`:              nil,
		`{"act":{"sub":"a","iss":null}}`:                     nil,
		`{"act":{"sub":"a","act":{"sub":null}}}`:             nil,
		`{"act":{"sub":"a\nb"}}`:                             nil,
		`{"act":{"sub":"` + strings.Repeat("x", 513) + `"}}`: nil,
	} {
		got, err := actors(t, claims)
		if (err != nil) != (want == nil) || err == nil && !slices.Equal(got, want) {
			t.Errorf("%.80s: %v %v", claims, got, err)
		}
	}
}

func FuzzActors(f *testing.F) {
	f.Add(`{"act":{"sub":"b","act":{"sub":"a"}}}`)
	f.Add(`{"act":{"sub":"a","iss":"https://i"}}`)
	f.Fuzz(func(t *testing.T, claims string) {
		var m map[string]any
		if json.Unmarshal([]byte(claims), &m) != nil {
			return
		}
		got, err := identity.Actors(m, "https://i")
		if err != nil {
			return
		}
		// Written out again, the chain must be all that there was.
		act := m["act"]
		for _, sub := range got {
			if o, ok := act.(map[string]any); !ok || o["sub"] != sub || sub == "" {
				t.Fatalf("%q is read as %q", claims, got)
			}
			act = act.(map[string]any)["act"]
		}
		if act != nil || len(got) > 8 {
			t.Fatalf("%q is read as %q", claims, got)
		}
	})
}
