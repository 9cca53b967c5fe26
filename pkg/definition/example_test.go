package definition_test

import (
	"fmt"
	"os"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// A folder is loaded, one flow is taken out of it, and its connector's address is filled in.
func ExampleLoad() {
	set, docs, err := definition.Load("../../examples/students/conf")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(docs), "documents")
	bundle, err := set.Bundle("CalStuAvgScore3")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bundle.Flow.ShardKey, bundle.FunctionNames())
	cache, err := bundle.Connectors["Score12Cache"].Resolve(os.LookupEnv)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cache.Name, cache.Key)
	// Output:
	// 9 documents
	// stu_id [VerifyStu LoadScoreAvg12 AvgStuScore3 PrintStuAvgScore]
	// Score12Cache stu_score12_avg_
}

// Everything that is wrong with a document is told at once.
func ExampleParse() {
	_, err := definition.Parse(definition.Document{Path: "flow.yml", YAML: []byte(`kistype: flow
flow_nam: Grades
status: on
flows:
  - fname: VerifyStu
`)})
	fmt.Println(err)
	// Output:
	// BAD_DOCUMENT: flow.yml:1: flow_name: is missing: write the flow's name
	// flow.yml:2: flow_nam: is not a key here; the keys are kistype, status, flow_name, flows, shard_key, copies, timeout; did you mean "flow_name"?
	// flow.yml:3: status: wants a whole number, not "on"
}

// A document is built in code.
func ExampleFlow_Marshal() {
	doc, err := (&definition.Flow{
		Name: "Grades", Enabled: true, ShardKey: "stu_id",
		Functions: []definition.FlowFunction{{Name: "VerifyStu", Params: map[string]string{"school": "TsingHua1"}}},
	}).Marshal()
	fmt.Printf("%v\n%s%v\n", doc, doc.YAML, err)
	// Output:
	// flow/Grades
	// kistype: flow
	// status: 1
	// flow_name: Grades
	// shard_key: stu_id
	// flows:
	//   - fname: VerifyStu
	//     params:
	//       school: TsingHua1
	// <nil>
}
