package sink_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

// forgeries are payloads that a host publishes as its own, and that would stand
// in a SIEM as an event of the host "victim".
func forgeries(t *testing.T) map[string][]byte {
	t.Helper()
	event := func(host string) string {
		s := &events.Session{ID: "s-1", Host: host, Protocol: "postgres"}
		return string(ocsf.Append(nil, "c1-1", &events.Event{Kind: events.Block, Time: start, Session: s, Verdict: events.Blocked}))
	}
	own, victim := event("h1"), event("victim")
	const device = `"device":{"hostname":"h1"`
	if !strings.Contains(own, device) {
		t.Fatalf("no device in %s", own)
	}
	return map[string][]byte{
		"a line":         []byte("{\"x\":\n" + victim + "\n," + own[1:]),
		"a carriage":     []byte("{\"x\":\r" + victim + "\r," + own[1:]),
		"plain":          []byte(victim),
		"twice":          []byte(strings.Replace(own, device, `"device":{"hostname":"victim","hostname":"h1"`, 1)),
		"two devices":    []byte(strings.Replace(own, device, `"device":{"hostname":"victim"},`+device, 1)),
		"another case":   []byte(strings.Replace(own, device, `"device":{"hostname":"victim"},"Device":{"hostname":"h1"`, 1)),
		"escaped":        []byte(strings.Replace(own, device, `"device":{"hostname":"\u0076ictim"},"devic\u0065":{"hostname":"h1"`, 1)),
		"source":         []byte(strings.Replace(own, device, `"src_endpoint":{"hostname":"victim"},`+device, 1)),
		"without a host": []byte(strings.Replace(own, device, `"device":{"x":"h1"`, 1)),
	}
}

// What a host publishes reaches a SIEM as its own, or not at all.
func TestEventsOfAnotherHost(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "it")
		s := load(t, "  file: {path: events.jsonl}\n")
		refused := make(chan int, 100)
		w.runSink(t, s, sink.Hooks{Refused: func(n int) { refused <- n }})
		all := forgeries(t)
		for _, payload := range all {
			w.chain.Add(events.Block, "postgres", "s-1", payload)
		}
		w.add(1)
		w.chain.Add(events.Block, "postgres", "s-1", ocsf.Append(nil, fmt.Sprintf("c1-%d", len(all)+3),
			&events.Event{Kind: events.Block, Session: session, Normalized: "\r\n\x00\u0085\u2028", Verdict: events.Blocked}))
		untilFile(t, s.Sinks[0].File.Path, []string{fmt.Sprintf("c1-%d", len(all)+1), fmt.Sprintf("c1-%d", len(all)+3)})
		w.acknowledged(t)
		b, err := os.ReadFile(filepath.Join(s.State, "it.rejected.jsonl"))
		if n := strings.Count(string(b), "\n"); err != nil || n != len(all) || len(refused) != len(all) {
			t.Errorf("%v: %d written down and %d counted of %d: %s", err, n, len(refused), len(all), b)
		}
	})
	t.Run("syslog", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var k taken
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { read(t, c, &k, true, -1); c.Close() }()
			}
		}()
		w := newWorld(t, "it")
		w.runSink(t, load(t, fmt.Sprintf("  syslog: {address: %q, transport: tcp, format: json}\n", l.Addr())), sink.Hooks{})
		all := forgeries(t)
		for _, payload := range all {
			w.chain.Add(events.Block, "postgres", "s-1", payload)
		}
		w.add(1)
		want := fmt.Sprintf("c1-%d", len(all)+1)
		k.until(t, []string{want})
		if got := k.list(); len(got) != 1 || got[0] != want {
			t.Errorf("it was told %v", got)
		}
	})
}
