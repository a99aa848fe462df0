package intercept_test

import (
	"net/netip"
	"testing"

	"sallyport.dev/sallyport/intercept"
)

func TestParseDestination(t *testing.T) {
	for _, c := range []struct{ in, out, inside, outside string }{
		{"10.0.0.5:5432", "10.0.0.5:5432", "10.0.0.5:5432", "10.0.0.5:5433"},
		{"[::ffff:10.0.0.5]:5432", "10.0.0.5:5432", "[::ffff:10.0.0.5]:5432", "10.0.0.6:5432"},
		{"10.0.0.0/8:5432-5440", "10.0.0.0/8:5432-5440", "10.255.0.1:5440", "11.0.0.1:5440"},
		{"[2001:db8::]/32:1", "[2001:db8::]/32:1", "[2001:db8:1::9]:1", "10.0.0.1:1"},
		{"0.0.0.0/0:5432", "0.0.0.0/0:5432", "9.9.9.9:5432", "[::1]:5432"},
		{"[fe80::1]:5432", "[fe80::1]:5432", "[fe80::1%lo]:5432", "[fe80::2]:5432"},
	} {
		d, err := intercept.ParseDestination(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if d.String() != c.out {
			t.Errorf("%s is written %s, want %s", c.in, d, c.out)
		}
		if !d.Contains(netip.MustParseAddrPort(c.inside)) {
			t.Errorf("%s does not contain %s", c.in, c.inside)
		}
		if d.Contains(netip.MustParseAddrPort(c.outside)) {
			t.Errorf("%s contains %s", c.in, c.outside)
		}
	}
	for _, bad := range []string{
		"", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:70000", "10.0.0.1:9-8", "10.0.0.1/8:1", "::1:5432", "[::1:5432",
		"0.0.0.0:5432", "224.0.0.1:1", "[fe80::1%lo]:1", "db:5432", "[::ffff:0:0]/96:1", "10.0.0.1:", ":1",
	} {
		if d, err := intercept.ParseDestination(bad); err == nil {
			t.Errorf("%q was read as %s", bad, d)
		}
	}
}
