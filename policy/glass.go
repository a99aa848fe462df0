package policy

import "time"

// BreakGlass is emergency access that a policy provides: who may open it, for what,
// and who must review it afterwards. While it is open, rules that ask for an approval
// do not ask. It lifts nothing else: what blocks, masks, filters and limits holds.
// There are no patterns: each is meant by name. Immutable.
type BreakGlass struct {
	Name      string        `json:"name"`
	Digest    [32]byte      `json:"-"`     // of all of it
	By        []Approver    `json:"by"`    // may open it
	Rules     []string      `json:"rules"` // that ask, and give way
	Resources []string      `json:"resources"`
	Workloads []string      `json:"workloads"`
	Longest   time.Duration `json:"longest"` // that it may be open
	Review    []Approver    `json:"review"`  // may review it
	Within    time.Duration `json:"within"`  // of its end it must be reviewed
}
