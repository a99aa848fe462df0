package ocsf_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

var update = flag.Bool("update", false, "write the examples of docs/events.md anew")

const docs = "../../docs/events.md"

// paths adds the path of each member: "a.b", "a[].b".
func paths(to map[string]bool, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			p := strings.TrimPrefix(at+"."+k, ".")
			// A finding's evidence is the objects of its session again.
			if p = strings.TrimPrefix(p, "evidences[]."); !isObject(m) {
				to[p] = true
			}
			paths(to, p, m)
		}
	case []any:
		for _, m := range v {
			paths(to, at+"[]", m)
		}
	}
}

func isObject(v any) bool {
	if l, ok := v.([]any); ok && len(l) > 0 {
		v = l[0]
	}
	_, ok := v.(map[string]any)
	return ok
}

func TestEveryFieldIsDocumented(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	_, b, _ = bytes.Cut(b, []byte("\n## Fields\n"))
	b, _, _ = bytes.Cut(b, []byte("\n## Examples\n"))
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_0-9.\\[\\]]+)` \\|").FindAllSubmatch(b, -1) {
		documented[string(m[1])] = true
	}
	written := map[string]bool{}
	cut := session()
	cut.ID, cut.Application = "cut", strings.Repeat("x", 10000)
	cut.Account, cut.Role = "billing", "reader"
	cut.ClientTLS, cut.ClientClear = events.TLS{}, true
	cut.ClientCertificate, cut.Undecoded = events.Certificate{Subject: "CN=agent", Issuer: "CN=authority", SHA256: "aa"}, true
	cut.Reached, cut.Path = netip.MustParseAddrPort("10.0.0.6:5432"), "/run/s"
	for _, e := range slices.Concat(examples(), more(), []*events.Event{
		{Kind: events.SessionOpen, Session: cut},
		{Kind: events.SessionClose, Session: cut, BytesIn: 1, Unplaced: true},
		{
			Kind: events.Alarm, Session: session(), Source: session().Destination, Destination: session().Destination, Transport: "tcp",
			Process: &events.Process{PID: 1, Exe: "/bin/x", Comm: "x", Cgroup: "/x"},
		},
		{Kind: events.Response, Session: session(), Number: 1, Normalized: "select", Fingerprint: 1, Bytes: 1},
	}) {
		var v any
		if err := json.Unmarshal(ocsf.Append(nil, uid, e), &v); err != nil {
			t.Fatal(err)
		}
		paths(written, "", v)
	}
	for _, p := range slices.Sorted(maps.Keys(written)) {
		p = strings.TrimSuffix(p, "[]")
		if s := strings.TrimPrefix(p, "unmapped.process."); !documented[p] && (s == p || !documented["actor.process."+s]) {
			t.Errorf("`%s` is not documented", p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(documented)) {
		if !written[p] {
			t.Errorf("`%s` is documented, and never written", p)
		}
	}
}

func TestEveryKindIsDocumented(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	for k := events.Kind(1); k.String() != ""; k++ {
		if !bytes.Contains(b, []byte("| **"+k.String()+"** |")) {
			t.Errorf("kind %s is not documented", k)
		}
	}
}

// The examples in the docs are what the encoder writes.
func TestDocumentedExamples(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[string]*events.Event{}
	for _, e := range examples() {
		byKind[e.Kind.String()] = e
	}
	n := 0
	re := regexp.MustCompile("(?s)<!-- example: ([a-z.]+) -->\n```json\n(.*?)```\n")
	out := re.ReplaceAllFunc(b, func(m []byte) []byte {
		n++
		sub := re.FindSubmatch(m)
		e := byKind[string(sub[1])]
		if e == nil {
			t.Fatalf("no kind %s", sub[1])
		}
		var want bytes.Buffer
		if err := json.Indent(&want, ocsf.Append(nil, uid, e), "", "  "); err != nil {
			t.Fatal(err)
		}
		want.WriteByte('\n')
		// The version is the build's.
		text := regexp.MustCompile(`"version": "(dev|v\d[^"]*)"`).ReplaceAll(want.Bytes(), []byte(`"version": "dev"`))
		if !bytes.Equal(text, sub[2]) && !*update {
			t.Errorf("the example of %s is not what is written: run go test ./events/ocsf -run Documented -update", sub[1])
		}
		return []byte("<!-- example: " + string(sub[1]) + " -->\n```json\n" + string(text) + "```\n")
	})
	if n < 4 {
		t.Errorf("%d examples", n)
	}
	if *update {
		if err := os.WriteFile(docs, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
