package identity_test

import (
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
)

// A token that others could present too is not said to be limited by its
// audience, whatever it was exchanged for.
func TestSharedTokens(t *testing.T) {
	for shared, want := range map[bool]bool{false: true, true: false} {
		v := says{identity.Token{
			Issuer: "i", Subject: "a", Audience: []string{"x"}, Shared: shared,
			Expires: time.Now().Add(time.Hour), Fresh: time.Now().Add(time.Hour),
		}}
		b, err := identity.NewBinder(proves{Workload: "a", Token: []byte("a.b.c")}, v, []identity.Workload{{Name: "a", Subjects: []string{"a"}}}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		id, err := b.Bind(t.Context(), &intercept.Peer{})
		if err != nil || slices.Contains(id.Proofs.Actor.Bound, intercept.BoundAudience) != want {
			t.Errorf("shared %v: %+v %v", shared, id.Proofs.Actor, err)
		}
	}
}
