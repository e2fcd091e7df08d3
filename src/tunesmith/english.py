"""Facts about English words that perturbations and measures need. The lists are short on purpose."""


def words(text: str) -> tuple[str, ...]:
    """Return the words of a list that is written as text."""
    return tuple(text.split())


def like(word: str, model: str) -> str:
    """Return ``word`` in capitals, with a capital, or as it is, as ``model`` is written.

    >>> like("teh", "The"), like("teh", "THE"), like("I'm", "i am")
    ('Teh', 'TEH', "I'm")
    """
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[0].upper() + word[1:] if model[0].isupper() else word


FIRST_NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "english": (
        words(
            "Alice Amanda Amy Angela Anna Ashley Barbara Betty Brenda Carol Catherine Christine Cynthia Deborah Donna "
            "Elizabeth Ellen Emily Emma Hannah Heather Jane Jennifer Jessica Julia Karen Kate Katherine Kathleen "
            "Kimberly Laura Linda Lisa Lucy Margaret Mary Megan Melissa Michelle Nancy Nicole Olivia Pamela Patricia "
            "Rachel Rebecca Samantha Sarah Sharon Sophie Stephanie Susan"
        ),
        words(
            "Adam Alexander Andrew Anthony Ben Benjamin Brian Charles Christopher Daniel David Edward Eric Gary George "
            "Gregory Harry Henry Jacob Jake James Jason Jeffrey John Jonathan Joseph Joshua Kenneth Kevin Luke Matthew "
            "Michael Mike Nicholas Oliver Patrick Paul Peter Richard Robert Ryan Sam Samuel Simon Stephen Steve Steven "
            "Thomas Tim Timothy Tom William"
        ),
    ),
    "spanish": (
        words("Alejandra Beatriz Camila Carmen Catalina Daniela Elena Gabriela Isabel Lucia Maria Rosa Sofia Ximena"),
        words("Alejandro Carlos Diego Enrique Esteban Fernando Javier Jorge Jose Juan Luis Manuel Miguel Pedro"),
    ),
    "west african": (
        words("Abena Adaeze Adwoa Akosua Ama Amara Chiamaka Efua Folake Ifeoma Ngozi Nkechi Temitope Yetunde"),
        words("Abiodun Babatunde Chinedu Emeka Femi Ikenna Kofi Kwabena Kwame Obinna Olumide Segun Tunde Yaw"),
    ),
    "arabic": (
        words("Aisha Amina Fatima Hanan Khadija Layla Leila Mariam Nadia Noor Rania Salma Samira Yasmin Zahra"),
        words("Abdullah Ahmed Ali Amir Faisal Hamza Hassan Ibrahim Khalid Mohammed Mustafa Omar Tariq Yusuf Ziad"),
    ),
    "indian": (
        words("Aditi Ananya Anjali Deepa Divya Kavita Lakshmi Meera Neha Pooja Priya Radhika Shreya Sunita Vidya"),
        words("Aditya Amit Arjun Deepak Ganesh Kiran Manoj Nikhil Prakash Rahul Rajesh Ravi Sanjay Suresh Vikram"),
    ),
    "chinese": (
        words("Fang Hui Jing Lan Lihua Ling Mei Meiling Qian Xiaoming Xiu Ying"),
        words("Bo Chao Feng Guang Haoran Jian Jun Ming Peng Qiang Wei Zhiwei"),
    ),
    "slavic": (
        words("Agnieszka Anastasia Bozena Danuta Irina Jelena Katarzyna Ludmila Milena Olga Svetlana Tatiana Zofia"),
        words("Andrzej Bogdan Boris Dimitri Dragan Igor Ivan Jakub Marek Miroslav Pavel Sergei Stanislav Zoran"),
    ),
}
"""Where a name is common -> female names, male names. Those that are also words or places (Grace) are left out."""

FUNCTION_WORDS = words(
    "a about above according across after afterwards again against all almost along already also although always "
    "among an and another any are around as at because been before behind being below besides between both but by "
    "can currently despite did do does due during each earlier either eventually even every everyone finally "
    "first for from further had has have he hello hence her here hers hi his how however if in initially instead "
    "into is it its just last lastly later like many maybe meanwhile more moreover most much my near neither "
    "never next nobody nor not nothing now of off often on once one only onto or other others our out over per "
    "perhaps please previously rather second several she should since so some someone sometimes soon still such "
    "than thank thanks that the their them then there therefore these they third this those though through "
    "throughout thus to today together tomorrow tonight too towards two under unfortunately unless until up upon "
    "us usually very via was we well were what when where whereas whether which while who whose why will with "
    "within without would yes yesterday yet you your"
)
"""Words that begin a sentence without being a name, whatever follows."""

DAYS = words("monday tuesday wednesday thursday friday saturday sunday")
MONTHS = words("january february march april may june july august september october november december")

SMALL_NUMBERS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
LARGE_NUMBERS = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
ORDINALS = words("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")

CONTRACTIONS = {
    "i am": "I'm", "you are": "you're", "we are": "we're", "they are": "they're", "he is": "he's", "she is": "she's",
    "it is": "it's", "that is": "that's", "there is": "there's", "what is": "what's", "who is": "who's",
    "where is": "where's", "here is": "here's", "i have": "I've", "you have": "you've", "we have": "we've",
    "they have": "they've", "i will": "I'll", "you will": "you'll", "he will": "he'll", "she will": "she'll",
    "it will": "it'll", "we will": "we'll", "they will": "they'll", "is not": "isn't", "are not": "aren't",
    "was not": "wasn't", "were not": "weren't", "do not": "don't", "does not": "doesn't", "did not": "didn't",
    "have not": "haven't", "has not": "hasn't", "had not": "hadn't", "cannot": "can't", "could not": "couldn't",
    "will not": "won't", "would not": "wouldn't", "should not": "shouldn't", "must not": "mustn't", "let us": "let's",
}  # fmt: skip
"""Long form -> short form. Forms with 'd are left out: they stand for had and for would."""

ONLY_HAS = words("been become come gone got had happened")
"""Participles before which 's stands for has."""

PARTICIPLES = words(
    "beaten begun bitten blown born bought broken brought built burnt caught chosen cost cut dealt done drawn driven "
    "drunk eaten fallen fed felt flown forgotten found frozen given grown heard held hidden hit hung hurt kept known "
    "learnt led left lent let lost made meant met paid put read ridden risen run rung said seen sent set shaken shown "
    "shut slept sold spent spoken stolen stood sung sunk swept swum taken taught thought thrown told torn understood "
    "woken won worn written"
)
"""Irregular participles before which 's may stand for is or for has."""

STATES = words(
    "annoyed bored concerned confused disappointed engaged excited interested married pleased scared supposed "
    "surprised tired worried"
)
"""Words in -ed that say how someone is, unless an object follows."""

MISSPELLINGS = {
    right: wrong
    for right, wrong in (
        pair.split("=")
        for pair in words("""
        the=teh and=adn that=taht with=wiht have=ahve you=yuo your=yuor they=tehy what=waht this=tihs from=form
        would=woudl could=coudl should=shoudl because=becuase about=abuot there=thier their=thier people=peopel
        which=wich when=wehn were=wre just=jsut know=konw like=liek make=mkae need=nede some=smoe than=then time=tiem
        want=wnat work=wrok said=siad also=aslo again=agian already=allready always=allways another=anohter
        before=befroe believe=beleive business=buisness calendar=calender certain=certian address=adress
        account=acount across=accross achieve=acheive actually=actualy appointment=appointement appreciate=apreciate
        available=availible beginning=begining coming=comming completely=completly condition=condtion correct=corect
        customer=custumer damaged=damadged definitely=definately delivery=delivary description=discription
        different=diffrent disappointed=dissapointed doesn't=dosen't don't=dont email=emial environment=enviroment
        especially=especialy excellent=excelent experience=experiance explanation=explaination february=febuary
        finally=finaly foreign=foriegn forward=foward friend=freind government=goverment grateful=greatful
        guarantee=garantee happened=happend height=heigth immediately=immediatly independent=independant
        information=infomation interest=intrest interesting=intresting it's=its knowledge=knowlege library=libary
        maintenance=maintainance message=mesage necessary=neccessary noticeable=noticable occasion=ocassion
        occurred=occured opinion=opinon opportunity=oppurtunity original=orignal package=pacakge payment=payement
        perhaps=perhpas personal=personel please=plese possible=posible privilege=priviledge probably=probaly
        problem=probelm question=qestion really=realy receipt=reciept receive=recieve received=recieved
        recommend=recomend reference=referance replacement=replacment restaurant=restaraunt return=retrun
        schedule=schedual separate=seperate several=severel similar=similiar sincerely=sincerly successful=succesful
        surprise=suprise system=sytem thank=thnak thanks=thnaks therefore=therfore thought=thougt through=throught
        together=togehter tomorrow=tommorow truly=truely until=untill usually=usualy wednesday=wensday weird=wierd
        welcome=wellcome whether=wether without=whitout yesterday=yeserday
        """)
    )
}
"""Word -> a common misspelling of it."""

KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Rows of letters on an English keyboard; a key touches its neighbours in the row."""
