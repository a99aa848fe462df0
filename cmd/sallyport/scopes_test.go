package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/redirect"
)

// inNamespace runs an agent's script in a network namespace, and a user
// namespace, that it makes itself, with nothing but a loopback.
func (h *host) inNamespace(token, script string) (string, error) {
	h.t.Helper()
	out, err := h.agent(token, "unshare", "-rn", "sh", "-c", "ip link set lo up; "+script).CombinedOutput()
	return string(out), err
}

// An agent in a namespace of its own, with no route to anywhere, reaches the
// server through the passage there, and only so.
func TestAgentInANamespaceOfItsOwn(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	token := h.token("agent-a")
	addr, port, _ := net.SplitHostPort(h.server)
	query := fmt.Sprintf("psql -X -A -t -h %s -p %s -c 'select 40 + 2'", addr, port)
	// The first socket of the namespace tells the loader of it.
	script := fmt.Sprintf("for i in 1 2 3 4 5 6 7 8 9 10; do %s 2>&1 && exit; sleep .1; done; exit 1", query)
	out, err := h.inNamespace(token, script)
	if err != nil || !strings.Contains(out, "42") {
		t.Fatalf("%v: %s\n%s", err, out, h.log)
	}
	if tries := strings.Count(out, "Operation not permitted"); tries > 6 {
		t.Errorf("%d attempts were refused before the passage stood: %s", tries, out)
	}
	// The daemon's listeners must not keep the namespace's passage open.
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		st, err := redirect.GetStatus(h.pins)
		if err == nil && st.Listening == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d namespaces have a passage after the agent's end (%v)\n%s", st.Listening, err, h.log)
		}
	}
}
