package postgrestest

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// Major returns the major version of the server in Bin.
var Major = sync.OnceValue(func() int {
	out, err := exec.Command(Bin+"postgres", "--version").Output()
	words := strings.Fields(string(out)) // postgres (PostgreSQL) 15.8 (Debian ...)
	if err == nil && len(words) > 2 {
		major, _, _ := strings.Cut(words[2], ".")
		if n, err := strconv.Atoi(major); err == nil {
			return n
		}
	}
	panic(fmt.Sprintf("%spostgres: %v: %q", Bin, err, out))
})

// Schema leaves out of a script what the server's major does not know: lines
// that end with a comment of the form "-- since: 15".
func Schema(sql string) string {
	var b strings.Builder
	for line := range strings.Lines(sql) {
		if _, since, ok := strings.Cut(line, "-- since: "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(since))
			if err != nil {
				panic(fmt.Sprintf("%q: %v", line, err))
			}
			if n > Major() {
				continue
			}
		}
		b.WriteString(line)
	}
	return b.String()
}
