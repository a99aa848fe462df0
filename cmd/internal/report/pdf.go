package report

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"

	"sallyport.dev/sallyport/cmd/internal/render"
)

// pdfShown bounds the lines of each table on paper.
const pdfShown = 1000

// paper writes tables. Its fonts are those that every reader of PDF has: what is
// in no Western European alphabet is shown as a dot, and stands in the other forms.
type paper struct {
	*fpdf.Fpdf
	tr func(string) string
}

// PDF returns the report for printing.
func PDF(r *Report) ([]byte, error) {
	f := fpdf.New("L", "mm", "A4", "")
	p := &paper{f, f.UnicodeTranslatorFromDescriptor("")}
	p.SetCreationDate(r.Made)
	p.SetModificationDate(r.Made)
	p.SetCatalogSort(true)
	p.SetCompression(false) // the archive is compressed; and Check holds it against the same, made by another build
	p.SetTitle("Accesses through sallyport", false)
	p.SetFooterFunc(func() {
		p.SetY(-12)
		p.SetFont("Helvetica", "", 8)
		p.CellFormat(0, 6, fmt.Sprintf("made %s, page %d", stamp(r.Made), p.PageNo()), "", 0, "C", false, 0, "")
	})
	p.SetAutoPageBreak(true, 12)
	p.AddPage()
	p.SetFont("Helvetica", "B", 16)
	p.CellFormat(0, 10, "Accesses through sallyport", "", 1, "", false, 0, "")
	p.text(fmt.Sprintf("From %s until before %s.%s", stamp(r.Filter.From), stamp(r.Filter.To), r.Filter.words()))
	if r.Sound {
		p.text("The evidence is sound: every record of the store is there, unchanged and in its place.")
	} else {
		p.text("The evidence is NOT sound:")
		for _, f := range r.Faults {
			p.text(f.String())
		}
	}
	p.table("Requirements", []float64{55, 160, 62}, []string{"Requirement", "What the evidence shows", "In report.json"}, len(r.Controls), func(i int) []string {
		c := r.Controls[i]
		return []string{c.Citation + " " + c.Title, c.Shows, c.Where}
	})
	for _, s := range []struct {
		title string
		sums  []Sum
	}{{"By identity", r.Identities}, {"By principal", r.Principals}} {
		p.table(s.title, []float64{60, 20, 24, 20, 20, 25, 108}, []string{"Name", "Sessions", "Statements", "Masked", "Refused", "Rows", "Relations"}, len(s.sums), func(i int) []string {
			x := s.sums[i]
			return []string{x.Name, fmt.Sprint(x.Sessions), fmt.Sprint(x.Statements), fmt.Sprint(x.Masked), fmt.Sprint(x.Refused), fmt.Sprint(x.Rows), strings.Join(x.Relations, ", ")}
		})
	}
	for _, s := range []struct {
		title string
		list  []Access
	}{{"Accesses", r.Accesses}, {"Refused", r.Refused}} {
		p.table(s.title, []float64{38, 55, 104, 60, 20}, []string{"Time", "Who", "What", "Decision", "Rows"}, len(s.list), func(i int) []string {
			a := &s.list[i]
			return []string{stamp(a.Time), join(a.Workload, a.Agent, pre("for ", a.Principal)), join(a.Resource, strings.Join(a.Relations, ", "), a.Query), a.decision(), fmt.Sprint(a.Rows) + pre("; ", a.Subject)}
		})
	}
	p.table("Approvals", []float64{38, 60, 25, 50, 50, 54}, []string{"Time", "Request", "Step", "Who asked", "Who decided", "Why"}, len(r.Approvals), func(i int) []string {
		a := &r.Approvals[i]
		return []string{stamp(a.Time), join(a.ID, a.Rule), a.Step, join(a.Workload, a.Actor, pre("for ", a.Principal)), a.Approver, a.Why}
	})
	for _, s := range []struct {
		title string
		list  []Note
	}{{"Policies in force", r.Policies}, {"Hosts", r.Hosts}, {"Who read the evidence", r.Reads}} {
		p.table(s.title, []float64{38, 40, 40, 159}, []string{"Time", "Host", "What", ""}, len(s.list), func(i int) []string {
			n := s.list[i]
			return []string{stamp(n.Time), n.Host, n.What, n.Text}
		})
	}
	p.table("Chains", []float64{45, 75, 22, 135}, []string{"Host", "Chain", "Last", "Hash of the last"}, len(r.Chains), func(i int) []string {
		c := r.Chains[i]
		return []string{c.Host, c.Chain, fmt.Sprint(c.Last), c.Hash}
	})
	if l := r.Log; l != nil {
		p.text(fmt.Sprintf("The records are in the transparency log %s, which had %d entries and the root %s.", l.Origin, l.Size, l.Root))
	}
	var b bytes.Buffer
	if err := p.Output(&b); err != nil {
		return nil, fmt.Errorf("PDF: %w", err)
	}
	return b.Bytes(), nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func join(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "; ")
}

func pre(word, s string) string {
	if s == "" {
		return ""
	}
	return word + s
}

func (f *Filter) words() string {
	s := join(pre("identity ", f.Identity), pre("principal ", f.Principal), pre("relation ", f.Relation), pre("resource ", f.Resource), pre("shown rows of ", strings.Join(f.Subjects, ", ")))
	return pre(" Only ", s)
}

func (a *Access) decision() string {
	return join(a.Verdict, pre("rules ", strings.Join(a.Rules, ", ")), a.Reason, pre("masked ", strings.Join(a.Masked, ", ")),
		pre("in clear ", strings.Join(a.Revealed, ", ")), pre("because: ", a.Justification), pre("approvals ", strings.Join(a.Approvals, ", ")))
}

// fit is s as the fonts have it, of one cell's size at most.
func (p *paper) fit(s string) string {
	if s = render.Line(s); len(s) > 600 {
		s = strings.ToValidUTF8(s[:600], "") + " ..."
	}
	return p.tr(s)
}

func (p *paper) text(s string) {
	p.SetFont("Helvetica", "", 10)
	p.MultiCell(0, 5, p.fit(s), "", "L", false)
}

// table writes rows of wrapped cells; each row stays on one page.
func (p *paper) table(title string, widths []float64, head []string, n int, row func(int) []string) {
	const height = 4
	p.Ln(4)
	p.SetFont("Helvetica", "B", 12)
	p.CellFormat(0, 8, title, "", 1, "", false, 0, "")
	if n == 0 {
		p.text("None.")
		return
	}
	write := func(cells []string, style string) {
		p.SetFont("Helvetica", style, 8)
		lines, most := make([][][]byte, len(cells)), 1
		for i, c := range cells {
			lines[i] = p.SplitLines([]byte(p.fit(c)), widths[i]-2)
			most = max(most, len(lines[i]))
		}
		_, page := p.GetPageSize()
		if p.GetY()+float64(most)*height > page-18 {
			p.AddPage()
			p.SetFont("Helvetica", style, 8)
		}
		x, y := p.GetX(), p.GetY()
		for i := range cells {
			p.Rect(x, y, widths[i], float64(most)*height, "D")
			for k, l := range lines[i] {
				p.SetXY(x, y+float64(k)*height)
				p.CellFormat(widths[i], height, string(l), "", 0, "L", false, 0, "")
			}
			x += widths[i]
		}
		p.SetXY(10, y+float64(most)*height)
	}
	write(head, "B")
	for i := range min(n, pdfShown) {
		write(row(i), "")
	}
	if n > pdfShown {
		p.text(fmt.Sprintf("%d more are in report.json.", n-pdfShown))
	}
}
