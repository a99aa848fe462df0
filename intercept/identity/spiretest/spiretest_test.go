package spiretest_test

import (
	"testing"

	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

func TestStart(t *testing.T) {
	s := spiretest.Start(t, spiretest.Options{})
	id := s.Register(spiretest.Entry{Path: "/x", Selectors: []string{"unix:uid:65534"}})
	s.Delete(id)
	other := spiretest.Start(t, spiretest.Options{TrustDomain: "two.test", NoBroker: true})
	s.Trust(other)
	s.StopAgent()
	s.StartAgent()
}
