"""What an exported model says of texts: python predict.py model.onnx "a text" ...

It needs onnxruntime, numpy and tokenizers alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession(sys.argv[1])
facts = json.loads(session.get_modelmeta().custom_metadata_map["tl_lightning"])
tokenizer = Tokenizer.from_file(str(Path(sys.argv[1]).with_name("tokenizer.json")))
tokenizer.enable_truncation(facts["preprocessing"]["length"])
tokenizer.no_padding()

for text in sys.argv[2:]:
    found = tokenizer.encode(text)
    rows = {"input_ids": found.ids, "token_type_ids": found.type_ids, "attention_mask": found.attention_mask}
    wanted = {given.name for given in session.get_inputs()}
    answer = session.run(None, {k: np.array([v], np.int64) for k, v in rows.items() if k in wanted})[0][0]
    order = np.argsort(-answer)[:3]
    print(text, *(f"{facts['outputs'][k]} {answer[k]:.4f}" for k in order), sep="\t")
