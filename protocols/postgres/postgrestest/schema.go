package postgrestest

import (
	_ "embed"
	"strings"
)

// ShopSQL makes the relations of random statements that hold nothing
// protected, beside the clinic of the corpus.
//
//go:embed shop.sql
var ShopSQL string

// Reach is what random statements may read and write.
type Reach int

const (
	// Open: relations with nothing protected in them.
	Open Reach = iota
	// OpenColumns: columns that are not protected, also of relations with others.
	OpenColumns
	// Everything there is.
	Everything
	// Reaches is how many there are.
	Reaches
)

// relation is one that random statements know.
type relation struct {
	name    string
	columns []column
	guarded bool   // it has protected columns
	insert  string // columns that an INSERT gives, "": it is only read
}

// column is one of a relation, or of an item in FROM.
type column struct {
	name, kind string
	protected  bool
}

// relations are those of shop.sql and of the corpus' clinic: a name, columns as
// name:type, protected ones behind a "!". Behind ">" stand the columns that are
// written.
var relations = readRelations(`
shop.orders id:int customer:text day:day total:num paid:bool note:text tags:list data:json > id customer total
shop.lines id:int order_id:int item:text amount:int > id order_id item amount
shop.events id:int kind:text day:day amount:int > id kind amount
shop.events_1 id:int kind:text day:day amount:int
shop.base id:int label:text > id label
shop.derived id:int label:text extra:int > id label extra
shop.v_orders id:int customer:text total:num
shop.v_labels id:int label:text
shop.m_orders customer:text n:int
shop.notes id:int body:text score:num > body score
shop."Odd" id:int "näme":text
public.products id:int name:text price:num tags:list data:json > id name price
clinic.encounters id:int patient_id:int day:day note:text
clinic.prescriptions id:int encounter_id:int drug:text dose:num
clinic.v_by_patient id:int patient_id:int
public.v_products id:int name:text
clinic.patients id:int !name:text !ssn:text !birth_date:day !phone:text !email:text city:text !name_upper:text visits:int > id city visits
clinic.patients id:int !name:text !ssn:text !birth_date:day !phone:text !email:text city:text !name_upper:text visits:int > id name ssn
clinic.archived id:int !name:text !ssn:text !birth_date:day !phone:text !email:text city:text !name_upper:text visits:int reason:text > id reason
clinic.claims id:int !ssn:text amount:num > id amount
clinic.claims_1 id:int !ssn:text amount:num
clinic.policies number:int kind:text !holder:text > number kind
clinic.members id:int !pin:text city:text > id city
clinic.staff id:int !pin:text > id pin
clinic.people id:int !tableoid:int > id
clinic.guarded id:int !pin:text > id pin
clinic.cards !ssn:text > ssn
clinic.v_patients id:int !name:text !ssn:text city:text
clinic.v_derived id:int !s:text !x:text !d:day city:text
clinic.v_whole id:int !row:text !j:json
clinic.v_nested !number:text note:text
clinic.v_union !ssn:text
clinic.v_cte !ssn:text !who:text !m:text
clinic.m_patients id:int !name:text !ssn:text
clinic.v_fn id:int !x:text
public.history id:int !old:text !olds:text
public.defaulted id:int !v:text > id
public.audited id:int !v:text > id v
pg_catalog.pg_stats tablename:text !attname:text !most_common_vals:text
`)

func readRelations(text string) (out []relation) {
	for line := range strings.Lines(text) {
		read, written, _ := strings.Cut(strings.TrimSpace(line), " > ")
		fields := strings.Fields(read)
		if len(fields) == 0 {
			continue
		}
		r := relation{name: fields[0], insert: written}
		for _, f := range fields[1:] {
			name, kind, _ := strings.Cut(f, ":")
			protected := strings.HasPrefix(name, "!")
			r.columns = append(r.columns, column{strings.TrimPrefix(name, "!"), kind, protected})
			r.guarded = r.guarded || protected
		}
		out = append(out, r)
	}
	return out
}

// within returns the relations of a reach, with the columns that are.
func within(reach Reach) (out []relation) {
	for _, r := range relations {
		if r.guarded && reach == Open {
			continue
		}
		if r.guarded && reach == OpenColumns {
			columns := r.columns
			r.columns = nil
			for _, c := range columns {
				if !c.protected {
					r.columns = append(r.columns, c)
				}
			}
			for _, c := range strings.Fields(r.insert) {
				if !r.has(c) {
					r.insert = ""
				}
			}
		}
		if len(r.columns) > 0 {
			out = append(out, r)
		}
		if reach == Everything && r.guarded {
			out = append(out, r, r) // these are what it is about
		}
	}
	return out
}

func (r *relation) has(name string) bool {
	for _, c := range r.columns {
		if c.name == name {
			return true
		}
	}
	return false
}
