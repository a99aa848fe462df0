package vouch_test

import (
	"testing"

	"sallyport.dev/sallyport/events/vouch"
)

// A rule by which one identity could speak for many hosts is none.
func TestNoIdentitySpeaksForManyHosts(t *testing.T) {
	for _, ids := range []string{
		"", "spiffe://one.test/sallyport", "spiffe://{host}/sallyport", "spiffe://one.test/{host}/{host}", "https://one.test/{host}", "spiffe://one.test{host}/x", "spiffe://one.test/a b/{host}",
	} {
		if _, err := vouch.New(ids, vouch.File("x")); err == nil {
			t.Errorf("%q is taken", ids)
		}
	}
	if _, err := vouch.New("spiffe://one.test/sallyport/host/{host}", vouch.File("x")); err != nil {
		t.Error(err)
	}
}
