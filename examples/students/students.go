// Package students is KisFlow's example: the average of two scores, and, in a second flow, of three. The second flow loads
// what the first one saves.
package students

import (
	"context"
	"strconv"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Student is what VerifyStu looks at.
type Student struct {
	ID int `json:"stu_id"`
}

// Scores12 is a row of CalStuAvgScore12.
type Scores12 struct {
	ID     int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Score2 int `json:"score_2"`
}

// Scores3 is a row of CalStuAvgScore3; LoadScoreAvg12 fills in Avg12.
type Scores3 struct {
	ID     int     `json:"stu_id"`
	Score3 int     `json:"score_3"`
	Avg12  float64 `json:"avg_score_1_2,omitempty"`
}

// Avg is what both flows pass on, and what is saved.
type Avg struct {
	ID  int     `json:"stu_id"`
	Avg float64 `json:"avg_score"`
}

// Register registers the functions that both flows' documents, in conf, name.
func Register(r *kis.Registry) {
	r.Func("VerifyStu", kis.Verify(VerifyStu))
	r.Func("AvgStuScore12", kis.Calculate(AvgStuScore12))
	r.Func("SaveScoreAvg12", kis.Save(SaveScoreAvg12))
	r.Func("LoadScoreAvg12", kis.Load(key, LoadScoreAvg12))
	r.Func("AvgStuScore3", kis.Calculate(AvgStuScore3))
	r.Func("PrintStuAvgScore", kis.Expand(PrintStuAvgScore))
}

// VerifyStu drops rows of students that can't be.
func VerifyStu(_ context.Context, s Student) error {
	if s.ID < 0 || s.ID > 999 {
		return kis.Drop("stu_id %d is outside 0..999", s.ID)
	}
	return nil
}

// AvgStuScore12 averages two scores.
func AvgStuScore12(_ context.Context, s Scores12) (Avg, error) {
	return Avg{s.ID, float64(s.Score1+s.Score2) / 2}, nil
}

// SaveScoreAvg12 saves the average under the student's id.
func SaveScoreAvg12(_ context.Context, to kis.Writer, a Avg) error {
	to.Set(strconv.Itoa(a.ID), "avg_score", a.Avg)
	return nil
}

func key(s Scores3) string { return strconv.Itoa(s.ID) }

// LoadScoreAvg12 adds the saved average. It is called once that is there.
func LoadScoreAvg12(_ context.Context, s Scores3, saved *Avg) (Scores3, error) {
	s.Avg12 = saved.Avg
	return s, nil
}

// AvgStuScore3 averages the third score and the two that were averaged before.
func AvgStuScore3(_ context.Context, s Scores3) (Avg, error) {
	return Avg{s.ID, (float64(s.Score3) + 2*s.Avg12) / 3}, nil
}

// PrintStuAvgScore passes the average on: what the last function passes on is the flow's output.
func PrintStuAvgScore(_ context.Context, a Avg, emit func(Avg)) error {
	emit(a)
	return nil
}
