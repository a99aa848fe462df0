package recorder_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/vouch"
)

const hostIDs = "spiffe://one.test/sallyport/host/{host}"

// authority makes SVIDs of any kind, which a SPIRE server would not.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

type svid struct {
	certs []*x509.Certificate
	key   *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, domain string) *authority {
	a := &authority{t: t}
	a.key, a.cert = a.issue(&x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{{Scheme: "spiffe", Host: domain}},
		NotBefore: noon.Add(-24 * time.Hour), NotAfter: noon.Add(24 * time.Hour),
	})
	return a
}

func (a *authority) issue(c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	by, with := a.cert, a.key
	if by == nil {
		by, with = c, key
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), with)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return key, c
}

// svid is good from noon for some minutes.
func (a *authority) svid(id string, minutes int) svid {
	u, err := url.Parse(id)
	if err != nil {
		a.t.Fatal(err)
	}
	key, c := a.issue(&x509.Certificate{URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: noon, NotAfter: noon.Add(time.Duration(minutes) * time.Minute)})
	return svid{[]*x509.Certificate{c}, key}
}

// oddly is an SVID of h1 that is as like makes it.
func (a *authority) oddly(like x509.Certificate) svid {
	like.URIs, like.NotBefore, like.NotAfter = []*url.URL{{Scheme: "spiffe", Host: "one.test", Path: "/sallyport/host/h1"}}, noon, noon.Add(time.Hour)
	key, c := a.issue(&like)
	return svid{[]*x509.Certificate{c}, key}
}

// rule is by a bundle of these authorities.
func rule(t *testing.T, as ...*authority) *vouch.Rule {
	t.Helper()
	var b []byte
	for _, a := range as {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	file := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := vouch.New(hostIDs, vouch.File(file))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// vouchedNote is a head signed by a key for which an SVID vouches.
func vouchedNote(t *testing.T, h events.SignedHead, key ed25519.PrivateKey, by svid) string {
	t.Helper()
	note, err := events.Vouch(events.SignHead(h, key), by.certs, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return note
}

// vouching is a chain of a heartbeat a minute from noon on, each signed; note makes it.
func vouching(id string, minutes int, note func(minute int, h events.SignedHead) string) *chaintest.Chain {
	c := chaintest.New(id)
	for i := range minutes {
		at := noon.Add(time.Duration(i) * time.Minute)
		says(c, at, events.Lifecycle, "")
		says(c, at.Add(time.Second), events.Checkpoint, note(i, head(c)))
	}
	return c
}

// second is a note's line of the identity that vouches.
func second(note string) string {
	lines := strings.SplitAfter(note, "\n")
	return lines[len(lines)-2]
}

// A host's key that nobody gave is taken where the host's own identity vouches for it, as
// it comes and for whoever verifies later, and in no other case.
func TestAnIdentityVouchesForAHostsKey(t *testing.T) {
	one, two, false1 := newAuthority(t, "one.test"), newAuthority(t, "two.test"), newAuthority(t, "one.test")
	mine, others := hostKey(1), hostKey(2)
	h1 := one.svid("spiffe://one.test/sallyport/host/h1", 60)
	with := func(key ed25519.PrivateKey, by svid) func(int, events.SignedHead) string {
		return func(_ int, h events.SignedHead) string { return vouchedNote(t, h, key, by) }
	}
	var old string
	for name, c := range map[string]struct {
		note  func(minute int, h events.SignedHead) string
		after time.Duration // from noon to its receipt
		pins  events.HostKeys
		want  string // the alarm of the first signature
		fault string // of who verifies; "as": the same
	}{
		"vouched for": {note: with(mine, h1)},
		"an intermediate between": {note: func(_ int, h events.SignedHead) string {
			key, ca := one.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: noon, NotAfter: noon.Add(time.Hour)})
			below := (&authority{t, ca, key}).svid("spiffe://one.test/sallyport/host/h1", 60)
			below.certs = append(below.certs, ca)
			return vouchedNote(t, h, mine, below)
		}},
		"nobody vouches":       {note: func(_ int, h events.SignedHead) string { return events.SignHead(h, mine) }, want: "unvouched", fault: "as"},
		"another host's SVID":  {note: with(mine, one.svid("spiffe://one.test/sallyport/host/h2", 60)), want: "unvouched", fault: "as"},
		"a workload's SVID":    {note: with(mine, one.svid("spiffe://one.test/sallyport/host/h1/agent", 60)), want: "unvouched", fault: "as"},
		"an authority's own":   {note: with(mine, one.oddly(x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true})), want: "unvouched", fault: "as"},
		"not one to sign with": {note: with(mine, one.oddly(x509.Certificate{KeyUsage: x509.KeyUsageKeyEncipherment})), want: "unvouched", fault: "as"},
		"another domain":       {note: with(mine, two.svid("spiffe://two.test/sallyport/host/h1", 60)), want: "unvouched", fault: "as"},
		"another domain's authority, with this one's name": {note: with(mine, false1.svid("spiffe://one.test/sallyport/host/h1", 60)), want: "unvouched", fault: "as"},
		"expired":                     {note: with(mine, one.svid("spiffe://one.test/sallyport/host/h1", 0)), after: time.Minute, want: "unvouched", fault: "as"},
		"expired on the way":          {note: with(mine, h1), after: 2 * time.Hour, want: "unvouched"}, // at its own time it held
		"from the future of its host": {note: with(mine, h1), after: -time.Minute, want: "unvouched"},
		"for another key": {note: func(_ int, h events.SignedHead) string {
			return events.SignHead(h, others) + second(vouchedNote(t, h, mine, h1))
		}, want: "unvouched", fault: "as"},
		"for another place": {note: func(_ int, h events.SignedHead) string {
			of := h
			of.Seq++
			return events.SignHead(h, mine) + second(vouchedNote(t, of, mine, h1))
		}, want: "unvouched", fault: "as"},
		"for another chain, of then": {note: func(_ int, h events.SignedHead) string {
			of := h
			of.Chain = "c0"
			return events.SignHead(h, mine) + second(vouchedNote(t, of, mine, h1))
		}, want: "unvouched", fault: "as"},
		"an old one, again": {note: func(i int, h events.SignedHead) string {
			if old == "" {
				old = second(vouchedNote(t, h, others, h1))
			}
			return events.SignHead(h, mine) + old
		}, want: "unvouched", fault: "as"},
		"the SVID of another in its name": {note: func(_ int, h events.SignedHead) string {
			note := vouchedNote(t, h, mine, one.svid("spiffe://one.test/sallyport/host/h2", 60))
			return strings.Replace(note, "/host/h2", "/host/h1", 1)
		}, want: "forged", fault: "as"},
		"the key did not sign": {note: func(_ int, h events.SignedHead) string {
			note := vouchedNote(t, h, mine, h1)
			text, _, _ := strings.Cut(note, "\n\n")
			_, sig, _ := strings.Cut(events.SignHead(h, others), "\n\n")
			return text + "\n\n" + sig + second(note)
		}, want: "forged", fault: "unvouched"},
		"a key was given":                 {note: func(_ int, h events.SignedHead) string { return events.SignHead(h, mine) }, pins: events.HostKeys{"h1": {public(mine)}}},
		"another key was given":           {note: with(mine, h1), pins: events.HostKeys{"h1": {public(others)}}, want: "forged", fault: "as"},
		"a key of another host was given": {note: with(mine, h1), pins: events.HostKeys{"h2": {public(others)}}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.fault == "as" {
				c.fault = c.want
			}
			by := rule(t, one)
			dir := newStore(t)
			s := open(t, dir)
			s.Vouch(by)
			if c.pins != nil {
				s.Trust(c.pins)
			}
			_, alarms, err := s.Add(t.Context(), messages("h1", vouching("c1", 3, c.note).All()), noon.Add(c.after))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(alarms) > 0 {
				got = alarms[0].What
			}
			if got != c.want {
				t.Errorf("alarms %+v, want %q", alarms, c.want)
			}
			if hs := heads(t, s); !slices.Equal(hs, []string{"h1/c1 6"}) {
				t.Errorf("it is not kept: %q", hs)
			}
			rep := verified(t, s, recorder.Noted{Keys: c.pins, Vouch: by})
			found := ""
			if len(rep.Faults) > 0 {
				found = rep.Faults[0].What
			}
			if found != c.fault {
				t.Errorf("verify: %v, want %q", rep.Faults, c.fault)
			}
			if sound := c.fault == ""; sound && (rep.Chains[0].Signed != 5 || rep.Chains[0].Signer != events.HostKeyLine("h1", public(mine))) {
				t.Errorf("%+v", rep.Chains[0])
			}
			if who := "spiffe://one.test/sallyport/host/h1"; c.fault == "" && len(c.pins["h1"]) == 0 && (rep.Chains[0].VouchedBy != who || rep.Chains[0].VouchedIn != 2) {
				t.Errorf("%+v", rep.Chains[0])
			}
		})
	}
}
