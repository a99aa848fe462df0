package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// clientEnv makes the test's program a client, which an agent can run.
const clientEnv = "SALLYPORT_E2E_CLIENT"

// client holds conversations given as JSON, and prints the answers.
func client(r io.Reader, w io.Writer) int {
	var in []postgrestest.Conversation
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out := make([]postgrestest.Reply, len(in))
	for i := range in {
		out[i] = postgrestest.Converse(context.Background(), "", &in[i])
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
