package stand_test

import (
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/policy/rules"
)

func TestPolicy(t *testing.T) {
	p, err := rules.Parse(rules.File{Name: "policy.yaml", Data: stand.Policy})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range p.Unmatched([]string{stand.Resource}, []string{"agent-a", "agent-b"}) {
		t.Error(w)
	}
}
