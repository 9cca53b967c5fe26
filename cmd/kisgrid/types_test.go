package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// apply, get function and explain show expressions and the types of rows; those of Go functions are as the worker has registered them.
func TestTypesOfACluster(t *testing.T) {
	text, err := os.ReadFile("../../examples/students/conf-expressions/students.yml")
	if err != nil {
		t.Fatal(err)
	}
	mixed := "---\nkistype: flow\nflow_name: Mixed\nstatus: 1\nshard_key: id\nflows: [{fname: A}, {fname: Twice}]\n---\nkistype: func\nfname: A\nfmode: Verify\n" +
		"---\nkistype: func\nfname: Twice\nfmode: Calculate\nsource: {fields: {id: int}}\noption: {calculate: {id: 2 * id}, keep: [name]}\n"
	g := flowtest.Cluster(t, 1, flowtest.Register(registers("A")))
	runs(t, g, string(text)+mixed, []string{"apply", "-f", "-"},
		"func/AvgStuScore12 created", "flow CalStuAvgScore12\n  1 VerifyStu (Verify): reads {stu_id: int}\n      verify  0 <= stu_id && stu_id <= params.most : bool\n",
		"  2 AvgStuScore12 (Calculate): reads {score_1: int, score_2: int, stu_id: int}, gives {avg_score: float, stu_id: int}\n",
		"flow Mixed\n  1 A (Verify): a Go function\n  2 Twice (Calculate): reads {id: int}, gives {id: int} and name\n      calculate.id  2 * id : int\n")
	out := runs(t, g, "kistype: func\nfname: Twice\nfmode: Calculate\nsource: {fields: {id: int}}\noption: {calculate: {id: id / 2}, keep: [name]}\n", []string{"apply", "-f", "-"},
		"  1 Twice (Calculate): reads {id: int}, gives {id: float} and name\n      calculate.id  id / 2 : float\n")
	if strings.Contains(out, "AvgStuScore12") {
		t.Errorf("types that did not change are told:\n%s", out)
	}
	if out := runs(t, g, string(text), []string{"apply", "-f", "-"}, "unchanged"); strings.Contains(out, "reads") {
		t.Errorf("types are told though nothing has changed:\n%s", out)
	}
	runs(t, g, "", []string{"get", "function", "AvgStuScore12"}, "flows     CalStuAvgScore12\nreads     {score_1: int, score_2: int, stu_id: int}\ngives     {avg_score: float, stu_id: int}\n  calculate.stu_id     stu_id : int\n  calculate.avg_score  (score_1 + score_2) / 2 : float\n")
	runs(t, g, "", []string{"get", "function", "A"}, "\nreads     main.mark{id int}\n") // package main of this program
	out = runs(t, g, "", []string{"get", "function", "Twice", "-o", "json"})
	var got struct {
		Types []struct {
			Flows               []string
			Function, Mode      string
			Reads, Gives, Keeps string
			Expressions         []struct{ Key, Text, Type string }
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Types) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	if f := got.Types[0]; len(f.Flows) != 1 || f.Flows[0] != "Mixed" || f.Function != "Twice" || f.Mode != "Calculate" || f.Reads != "{id: int}" || f.Gives != "{id: float}" || f.Keeps != "name" ||
		len(f.Expressions) != 1 || f.Expressions[0].Key != "option.calculate.id" || f.Expressions[0].Text != "id / 2" || f.Expressions[0].Type != "float" {
		t.Errorf("the types are %+v", f)
	}
	runs(t, g, "", []string{"explain", "CalStuAvgScore3", "7"}, "rows of the key that have not ended: 0\n", "functions of the flow, by its newest documents:\n  1 VerifyStu (Verify): reads {stu_id: int}\n",
		"  2 LoadAvg12 (Load): reads {stu_id: int}, gives {avg_score_1_2: any} and all other fields\n")
	runs(t, g, "", []string{"explain", "Mixed", "7", "-o", "json"}, `"functions": [`, `"go": true`, `"gives": "{id: float}"`)
}
