from embedrl.data.items import candidate as candidate
from embedrl.data.items import query as query
from embedrl.data.sample import Item as Item
from embedrl.data.sample import Pair as Pair
from embedrl.data.tcot import Evidence as Evidence
from embedrl.data.tcot import TCoT as TCoT
from embedrl.evaluation.evaluate import evaluate as evaluate
from embedrl.evaluation.task import RetrievalTask as RetrievalTask
from embedrl.index.answer import CitedAnswer as CitedAnswer
from embedrl.index.answer import ask as ask
from embedrl.index.filter import Filter as Filter
from embedrl.index.index import Index as Index
from embedrl.index.ingest import ingest as ingest
from embedrl.index.query import Query as Query
from embedrl.index.recommend import Examples as Examples
from embedrl.index.recommend import recommend as recommend
from embedrl.index.search import search as search
from embedrl.media.content import Image as Image
from embedrl.media.content import Page as Page
from embedrl.media.content import Text as Text
from embedrl.media.content import Video as Video
from embedrl.runtime.names import load_embedder as load_embedder
from embedrl.runtime.names import load_reasoner as load_reasoner
from embedrl.runtime.names import load_text_reader as load_text_reader
from embedrl.runtime.names import load_transcriber as load_transcriber

__version__: str
