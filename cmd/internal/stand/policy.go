package stand

import _ "embed"

// Policy is the clinic's.
//
//go:embed policy.yaml
var Policy []byte
