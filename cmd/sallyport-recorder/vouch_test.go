package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/vouch"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

// svidOf waits until an agent has an SVID for this process.
func svidOf(t *testing.T, s *spiretest.Spire, id string) *x509svid.SVID {
	t.Helper()
	for until := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		all, err := workloadapi.FetchX509SVIDs(t.Context(), workloadapi.WithAddr("unix://"+s.Workload))
		for _, x := range all {
			if x.ID.String() == id {
				return x
			}
		}
		if time.Now().After(until) {
			t.Fatalf("no SVID of %s: %v", id, err)
		}
	}
}

// chainOf is a host's chain out of a real journal, whose key an SVID vouches for.
func chainOf(t *testing.T, host string, by *x509svid.SVID) (out []recorder.Message) {
	t.Helper()
	j, err := journal.Open(t.TempDir(), journal.Options{
		Host: host, Encode: ocsf.Append, CheckpointEvery: 20 * time.Millisecond,
		Vouch: func(note string) string {
			with, err := events.Vouch(note, by.Certificates, by.PrivateKey)
			if err != nil {
				t.Error(err)
			}
			return with
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := j.Append(&events.Event{Kind: events.Lifecycle, Time: time.Now(), Status: "heartbeat"}); err != nil {
		t.Fatal(err)
	}
	r := j.Reader(1)
	defer r.Close()
	for {
		rec, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rec.Payload = append([]byte(nil), rec.Payload...)
		out = append(out, recorder.Message{Host: host, Record: rec})
		if rec.Kind == events.Checkpoint {
			return out
		}
	}
}

// With real SVIDs and the bundle of a real agent: a host's own identity vouches for its
// key; that of another host, of another trust domain and one that has expired do not.
// What was taken can be verified later with the authorities that were kept.
func TestRealSVIDsVouch(t *testing.T) {
	one, two := spiretest.Start(t, spiretest.Options{}), spiretest.Start(t, spiretest.Options{TrustDomain: "two.test"})
	self := fmt.Sprint("unix:uid:", os.Getuid())
	for path, ttl := range map[string]time.Duration{"/sallyport/host/h1": 0, "/sallyport/host/h2": 0, "/sallyport/host/h3": 15 * time.Second} {
		one.Register(spiretest.Entry{Path: path, Selectors: []string{self}, TTL: ttl})
	}
	two.Register(spiretest.Entry{Path: "/sallyport/host/h1", Selectors: []string{self}})
	const id = "spiffe://one.test/sallyport/host/"
	h1, h2, brief, foreign := svidOf(t, one, id+"h1"), svidOf(t, one, id+"h2"), svidOf(t, one, id+"h3"), svidOf(t, two, "spiffe://two.test/sallyport/host/h1")
	late := chainOf(t, "h3", brief)
	time.Sleep(time.Until(brief.Certificates[0].NotAfter.Add(time.Second)))

	for name, c := range map[string]struct {
		of   []recorder.Message
		want string
	}{
		"its own":              {chainOf(t, "h1", h1), ""},
		"another host's":       {chainOf(t, "h1", h2), "unvouched"},
		"another trust domain": {chainOf(t, "h1", foreign), "unvouched"},
		"expired":              {late, "unvouched"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store, err := recorder.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			o := vouchOptions{ids: id + "{host}", agent: "unix://" + one.Workload}
			done, err := o.open(t.Context(), store, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			_, alarms, err := store.Add(t.Context(), c.of, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(alarms) > 0 {
				got = alarms[0].What
				t.Log(alarms[0].Detail)
			}
			if got != c.want {
				t.Fatalf("alarms %+v, want %q", alarms, c.want)
			}
			if c.want != "" {
				return
			}
			// Offline, with the kept authorities alone; and with another domain's they are not it.
			for file, sound := range map[string]bool{filepath.Join(dir, authoritiesName): true, filepath.Join(two.Dir, "bundle.pem"): false} {
				by, err := vouch.New(id+"{host}", vouch.File(file))
				if err != nil {
					t.Fatal(err)
				}
				rep, err := recorder.Verify(t.Context(), store, recorder.Noted{Vouch: by})
				if err != nil || (len(rep.Faults) == 0) != sound || sound && rep.Chains[0].VouchedBy != id+"h1" {
					t.Errorf("%+v, %v", rep, err)
				}
			}
		})
	}
}

// What could not be what was meant starts no recorder.
func TestVouchingIsGivenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	store, err := recorder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const ids = "spiffe://one.test/sallyport/host/{host}"
	for _, o := range []vouchOptions{
		{ids: ids},
		{bundle: empty},
		{agent: "unix:///x"},
		{ids: ids, bundle: empty, agent: "unix:///x"},
		{ids: ids, bundle: empty},
		{ids: ids, bundle: filepath.Join(dir, "none")},
		{ids: "spiffe://one.test/sallyport", bundle: empty},
		{ids: ids, agent: "x"},
	} {
		if _, err := o.open(t.Context(), store, dir); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
