package policy_test

import (
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// A justification is of the person that it was given for.
func TestJustificationIsOfOnePerson(t *testing.T) {
	s := policy.Session{Event: &events.Session{}}
	s.Justify("patient calls")
	s.Renew(intercept.Identity{Workload: "desk"})
	if s.Justification() != "patient calls" {
		t.Error("another proof of the same identity drops it")
	}
	s.Become(intercept.Identity{Workload: "desk"})
	if s.Justification() != "" {
		t.Error("another person has it")
	}
}
