package rewrite

import (
	"os"
	"sort"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The walker reads the fields of these nodes by name. A parser that knows
// more fields would have them passed over: testdata/fields.txt lists those
// that were looked at, and this test fails until new ones are.
func TestEveryFieldWasLookedAt(t *testing.T) {
	b, err := os.ReadFile("testdata/fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, fields, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			want[name] = strings.TrimSpace(fields)
		}
	}
	nodes := map[string]protoreflect.MessageDescriptor{}
	fields := (&pg.Node{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		m := fields.Get(i).Message()
		nodes[string(m.Name())] = m
	}
	for name, list := range want {
		m := nodes[name]
		if m == nil {
			t.Errorf("the parser has no node %s any more", name)
			continue
		}
		var have []string
		for i := range m.Fields().Len() {
			have = append(have, string(m.Fields().Get(i).Name()))
		}
		sort.Strings(have)
		if got := strings.Join(have, " "); got != list {
			t.Errorf("%s has other fields than were looked at:\n  now  %s\n  then %s", name, got, list)
		}
	}
	if len(want) < 50 {
		t.Errorf("only %d nodes", len(want))
	}
}
