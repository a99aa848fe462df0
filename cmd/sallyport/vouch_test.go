package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/vouch"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

// A daemon that has an SVID of its own has it vouch for the key that signs its chain: the
// rule of this host's ID takes it, and that of another ID does not.
func TestTheHostsIdentityVouchesForItsKey(t *testing.T) {
	s := spiretest.Start(t, spiretest.Options{Group: daemonUID, Delegates: []string{"spiffe://one.test/sallyport/host/test"}})
	h := newHost(t, "")
	b, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, strings.Replace(string(b), "\nidentity:\n",
		fmt.Sprintf("\nidentity:\n  spiffe: {agent: \"unix://%s\", admin: \"unix://%s\"}\n", s.Workload, s.Admin), 1))
	s.Register(spiretest.Entry{Path: "/sallyport/host/test", Selectors: []string{fmt.Sprint("unix:uid:", daemonUID)}})
	h.serve()
	said := func() bool { // a checkpoint is made each minute
		files, _ := filepath.Glob(filepath.Join(h.dir, "state", "journal", "*"))
		for _, f := range files {
			if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("spiffe://one.test/sallyport/host/test")) {
				return true
			}
		}
		return false
	}
	for until := time.Now().Add(3 * time.Minute); !said() && time.Now().Before(until); {
		time.Sleep(200 * time.Millisecond)
	}
	h.stop()
	for _, e := range recorded(h.record(), events.Checkpoint) {
		note, err := events.ParseSignedHead(e.Message)
		if err != nil {
			t.Fatal(err)
		}
		if note.Vouching == nil { // it had no SVID yet
			continue
		}
		for ids, ok := range map[string]bool{"spiffe://one.test/sallyport/host/{host}": true, "spiffe://one.test/host/{host}": false} {
			rule, err := vouch.New(ids, vouch.File(filepath.Join(s.Dir, "bundle.pem")))
			if err != nil {
				t.Fatal(err)
			}
			if id, err := rule.Check(&note, time.Now(), e.Time); (err == nil) != ok {
				t.Errorf("%s: %q, %v", ids, id, err)
			}
		}
		return
	}
	t.Fatal("it vouches for nothing")
}
