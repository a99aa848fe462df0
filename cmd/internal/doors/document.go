package doors

import (
	"fmt"
	"slices"
	"strings"
)

// Group is doors that have something in common.
type Group struct {
	Title string
	Doors []Door
}

// Door is one way to a protected server.
type Door struct {
	Name string // names its rows
	How  string // what the attempt does, for the document

	// Why says, in one sentence, what makes an answer so. An answer without a
	// sentence here has the usual one. Passes must have one: it says why this is
	// out of scope, and what answers it.
	Why map[Answer]string
}

var usual = map[Answer]string{
	Redirected: "the connect hook sees it",
	Refused:    "a hook refuses it",
}

// Because returns the sentence of an answer, "" if nobody wrote one.
func (d *Door) Because(a Answer) string {
	if why := d.Why[a]; why != "" {
		return why
	}
	return usual[a]
}

const preamble = `# Doors

This page is generated: ` + "`make doors`" + ` measures and writes it, and the tests fail
when a row of the kernel that they run on is another. Read it as what was found,
not as what was meant.

Each door is tried by a program that does the real thing
(` + "`cmd/internal/doors/attempt`" + `), as an unprivileged user with no more than the
capability that is named. It is tried first without a guard, and must reach the
server; where it does not, the row says *unverified* and why. Then it is tried
with the guard up, in mode ` + "`cgroup`" + ` and in mode ` + "`host`" + `, and each of them once with a
daemon and once with the daemon killed. What arrives decides:

| answer | means |
|---|---|
| redirected | the attempt's bytes came out of the passage, with the kernel's record of who sent them and whither |
| refused | they arrived nowhere |
| passes | they arrived at the server. This is out of scope, and the row says what answers it |
| unverified | they don't arrive without a guard either, so nothing was shown |

With the daemon killed, no door leads to the server that does not lead there
with a daemon too; what was redirected is refused. The test holds that.

The tests run in a network namespace of their own, as a host: the server is at
an address of the host, on loopback, or in another namespace at the other end of
a veth pair. "Inside" is a covered cgroup; "outside" is one that mode ` + "`cgroup`" + `
does not cover and mode ` + "`host`" + ` does.
`

// Document writes the page.
func Document(groups []Group, rows []Row) string {
	var b strings.Builder
	b.WriteString(preamble)
	var kernels []string
	at := map[[3]string]Row{}
	for _, r := range rows {
		at[r.key()] = r
		if !slices.Contains(kernels, r.Kernel) {
			kernels = append(kernels, r.Kernel)
		}
	}
	slices.SortFunc(kernels, compareKernels)
	for _, g := range groups {
		fmt.Fprintf(&b, "\n## %s\n\n| door | mode |%s why |\n|---|---|%s---|\n", g.Title,
			each(kernels, func(k string) string { return " " + k + " |" }), each(kernels, func(string) string { return "---|" }))
		for _, d := range g.Doors {
			for i, mode := range []string{"cgroup", "host"} {
				name := ""
				if i == 0 {
					name = "**" + d.Name + "**: " + d.How
				}
				fmt.Fprintf(&b, "| %s | %s |%s %s |\n", name, mode,
					each(kernels, func(k string) string { return " " + cell(at[[3]string{k, d.Name, mode}]) + " |" }),
					whys(kernels, at, d.Name, mode))
			}
		}
	}
	return b.String()
}

func each(kernels []string, f func(string) string) string {
	var b strings.Builder
	for _, k := range kernels {
		b.WriteString(f(k))
	}
	return b.String()
}

func cell(r Row) string {
	if r.Answer == "" {
		return "-"
	}
	return string(r.Answer)
}

// whys joins what the kernels' rows say; what all say stands once.
func whys(kernels []string, at map[[3]string]Row, door, mode string) string {
	var said []string
	of := map[string][]string{}
	for _, k := range kernels {
		r := at[[3]string{k, door, mode}]
		if r.Why == "" {
			continue
		}
		if of[r.Why] == nil {
			said = append(said, r.Why)
		}
		of[r.Why] = append(of[r.Why], k)
	}
	if len(said) == 1 {
		return said[0]
	}
	for i, why := range said {
		said[i] = strings.Join(of[why], ", ") + ": " + why
	}
	return strings.Join(said, "; ")
}
